"""What the text after `/task` means: a command, the title of a new task, or a near miss that is asked about."""

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from schemas.slack.escaping import unescape
from schemas.slack.typed import clock_times, durations, parser, times, words
from schemas.slack.typed.parser import NearMiss, Run, Title

QUOTED = [
    '"{}"', "“{}”", "„{}“", "'{}'", "‘{}’", "`{}`", "´{}´", "«{}»", "»{}«", "「{}」", "*{}*", "_{}_", "({})", "[{}]",
    "&lt;{}&gt;",
]  # fmt: skip
SPELLINGS = [
    "{}", "{}.", "{}!", "{}?", "{}…", "{}...", "{},", "{};", "{} .", "  {}  ", "{}\n", "\u00a0{}\u200b", "\ufeff{}", "/{}",
    "/task {}", "{} please", "please {}", "{} now!", *QUOTED,
]  # fmt: skip


@pytest.mark.parametrize("name", [*parser.WITHOUT_WORDS, "start", "switch"])
def test_a_command_is_recognized_in_every_spelling(name: str) -> None:
    wide = "".join(chr(ord(character) + 0xFEE0) for character in name)
    for typed in (name, name.upper(), name.capitalize(), wide):
        for spelling in SPELLINGS:
            assert parser.parse(spelling.format(typed)) == Run(name), spelling.format(typed)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("STOP now", Run("stop")),
        ("“stop”", Run("stop")),
        ("stop the timer, please", Run("stop")),
        ("stop at 17:30", Run("stop", "at 17:30")),
        ("stop 5.30 pm", Run("stop", "at 17:30")),
        ("Stop at 5pm!", Run("stop", "at 17:00")),
        ("?", Run("help")),
        ("？", Run("help")),
        ("help?", Run("help")),
        ("list all", Run("list")),
        ("list all my tasks", Run("list")),
        ("my week", Run("week")),
        ("this week", Run("week")),
        ("start", Run("start")),
        ("start my timer", Run("start")),
        ("start Migrate", Run("start", "Migrate")),
        ("Start: Migrate the mail server", Run("start", "Migrate the mail server")),
        ("start:Migrate", Run("start", "Migrate")),
        ("“start Migrate”", Run("start", "Migrate")),
        ("start R&amp;D", Run("start", "R&D")),
        ("switch mail", Run("switch", "mail")),
        ("note", Run("note")),
        ("note - The cable was broken.", Run("note", "The cable was broken.")),
        ("note this", Run("note", "this")),
        ("Note: the cable was broken", Run("note", "the cable was broken")),
        ("log", Run("log")),
        ("log 1h30", Run("log", seconds=5400)),
        ("LOG 1H30!", Run("log", seconds=5400)),
        ("“log 1h30”", Run("log", seconds=5400)),
        ("log: 45m Migrate: moved the boxes", Run("log", "Migrate: moved the boxes", 2700)),
        ("log for 2h Migrate", Run("log", "Migrate", 7200)),
        ("log 1 h 30 min - Migrate", Run("log", "Migrate", 5400)),
        ("log 1h 30 boxes", Run("log", "30 boxes", 3600)),
    ],
)  # fmt: skip
def test_a_command_with_its_words(typed: str, meant: Run) -> None:
    assert parser.parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stpo", Run("stop")),
        ("stopp", Run("stop")),
        ("sto", Run("stop")),
        ("stop the migration", Run("stop")),
        ("Status page of Acme", Run("status")),
        ("List the servers", Run("list")),
        ("help page", Run("help")),
        ("Today: call Ada", Run("today")),
        ("hlep", Run("help")),
        ("lists", Run("list")),
        ("weeks", Run("week")),
        ("strat", Run("start")),
        ("strat Migrate", Run("start", "Migrate")),
        ("swicth mail", Run("switch", "mail")),
        ("Note taking app for Acme", Run("note", "taking app for Acme")),
        ("ntoe The cable", Run("note", "The cable")),
        ("lgo 1h30 Migrate", Run("log", "Migrate", 5400)),
        ("log1h30 Migrate", Run("log", "Migrate", 5400)),
        ("log Migrate 1h30", Run("log", "Migrate", 5400)),
        ("log 90", Run("log", seconds=5400)),
        ("log 1,5 Migrate", Run("log", "Migrate", 5400)),
        ("log 8", Run("log", seconds=28800)),
        ("log rotation is broken", Run("log")),
    ],
)  # fmt: skip
def test_a_near_miss_is_asked_about_and_could_be_a_title(typed: str, meant: Run) -> None:
    assert parser.parse(typed) == NearMiss(meant, typed)
    assert parser.parse(meant.text) == meant, "what the button runs is the command that it shows"


@pytest.mark.parametrize(
    "typed",
    [
        "Migrate the mail server", "Stopping distance", "Smart home", "Last invoice", "The stop is broken", "Notes of Monday",
        "R&D", "1h30", "Logs are full", "blog", "Weekend shift", "Überstunden", "🙂", "<b>", "Stop-and-go", "e-mail", "C++",
        "/etc is full", "shop floor", "Statusbericht", "dog 2h", "all hands",
    ],
)  # fmt: skip
def test_all_other_texts_are_titles(typed: str) -> None:
    assert parser.parse(f" {typed} ") == Title(typed)


@pytest.mark.parametrize("typed", ["", "   ", ".", "...", '""', "“”", "-", "\u200b", "/task", "/task  "])
def test_a_text_without_words_is_no_title(typed: str) -> None:
    assert parser.parse(typed) == Title("")


def test_what_slack_escapes_is_unescaped_once() -> None:
    assert parser.parse("R&amp;D &lt;b&gt; &quot;x&quot;") == Title("R&D <b> &quot;x&quot;")
    assert unescape("&amp;lt;") == "&lt;" and unescape("&amp;amp;") == "&amp;"


@pytest.mark.parametrize(
    ("typed", "minutes"),
    [
        ("1h30", 90), ("1H30", 90), ("１ｈ３０", 90), ("1:30", 90), ("1:30h", 90), ("1.5h", 90), ("1,5h", 90), ("1,5 h", 90),
        ("1½h", 90), ("½h", 30), (".5h", 30), ("90m", 90), ("90 min", 90), ("90 minutes", 90), ("1 h 30 min", 90),
        ("1h30m", 90), ("1 hour 30 minutes", 90), ("2h", 120), ("2 hrs", 120), ("2 hours,", 120),
        ("“2h”", 120), ("0:05", 5), ("12h", 720),
        ("100h", 6000), ("1.25 h", 75), ("0h", 0),
    ],
)  # fmt: skip
def test_a_duration(typed: str, minutes: int) -> None:
    for rest in ("", "Migrate the server"):
        found = durations.parse(f"{typed} {rest}")
        assert found is not None and (found.seconds, found.rest) == (minutes * 60, rest)


@pytest.mark.parametrize(
    "typed", ["", "Migrate", "1h90", "1:75", "h", "-1h", "1h5", "90", "1.5", "1d", "m30", "1e5h", "99999m", "١h"]
)
def test_no_duration(typed: str) -> None:
    assert durations.parse(typed) is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("17:30", time(17, 30)), ("at 17:30", time(17, 30)), ("17.30", time(17, 30)), ("17h30", time(17, 30)),
        ("17h", time(17)), ("17", time(17)), ("5pm", time(17)), ("5 PM", time(17)), ("5.30 pm", time(17, 30)),
        ("5:30 p.m.", time(17, 30)),
        ("12am", time(0)), ("12 pm", time(12)), ("１７：３０", time(17, 30)), ("“17:30”", time(17, 30)), ("0:05", time(0, 5)),
        ("at 9.", time(9)), ("24:00", None), ("17:60", None), ("13pm", None), ("0am", None), ("Migrate", None), ("", None),
        ("17:3", None), ("1730000", None), ("-5", None),
    ],
)  # fmt: skip
def test_a_time_of_day(typed: str, expected: time | None) -> None:
    assert clock_times.parse(typed) == expected


@pytest.mark.parametrize(
    ("now", "at", "expected"),
    [
        ("2026-11-23T18:00:00+01:00", time(17, 30), "2026-11-23T17:30:00+01:00"),
        ("2026-11-23T17:00:00+01:00", time(17, 30), "2026-11-22T17:30:00+01:00"),
        # clocks show 02:30 twice on this day
        ("2026-10-25T02:20:00+02:00", time(2, 30), "2026-10-24T02:30:00+02:00"),
        ("2026-10-25T02:40:00+02:00", time(2, 30), "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:20:00+01:00", time(2, 30), "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:40:00+01:00", time(2, 30), "2026-10-25T02:30:00+01:00"),
        # clocks skip 02:30 on this day
        ("2026-03-29T04:00:00+02:00", time(2, 30), "2026-03-28T02:30:00+01:00"),
        ("2026-03-30T01:00:00+02:00", time(2, 30), "2026-03-28T02:30:00+01:00"),
    ],
)
def test_the_last_time_that_clocks_showed_a_time_of_day(now: str, at: time, expected: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    for present in (datetime.fromisoformat(now), datetime.fromisoformat(now).astimezone(zone)):
        assert times.latest(at, zone, now=present) == datetime.fromisoformat(expected)


def test_one_typing_error() -> None:
    assert all(words.is_one_error_apart(other, "stop") for other in ("stp", "stoop", "step", "stpo", "xstop", "top", "stop!"))
    assert not any(words.is_one_error_apart(other, "stop") for other in ("stop", "start", "pots", "st", "stops!", "tsopp", ""))
