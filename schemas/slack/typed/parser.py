"""The text after `/task` as a command, as the title of a new task, or as something to ask about.

Many titles begin with the name of a command ("Status page of Acme", "List the servers"), so a text is a command only if all of
it makes sense as one. Otherwise the person is asked.
"""

from dataclasses import dataclass
from typing import TypeAlias

from schemas.slack.escaping import unescape
from schemas.slack.typed import clock_times, durations, words

MAX_TITLE = 200
WITHOUT_WORDS = ("stop", "status", "list", "help", "today", "week", "approve", "reminders")
WITH_WORDS = ("start", "switch", "log", "note")
COMMANDS = (*WITHOUT_WORDS, *WITH_WORDS)
# words that change nothing beside a command: "stop the timer now", "list all my tasks"
FILLERS = frozenset(
    "a all any for hours in it just me my now of on please pls show task tasks that the this time timer timers".split()
)
_QUESTION_MARKS = "?？¿"
_LEADING = "-–—:,. \t\n"


@dataclass(frozen=True)
class Run:
    """A command, the words after it, and the duration of `log` in seconds. `stop` has words only for a time of day:
    "at 17:30"; `reminders` for "on" and "off"."""

    name: str
    words: str = ""
    seconds: int | None = None

    @property
    def text(self) -> str:
        """The command as it can be typed."""
        duration = durations.short(self.seconds) if self.seconds is not None else ""
        return " ".join(part for part in (self.name, duration, self.words) if part)


@dataclass(frozen=True)
class Title:
    """The title of a new task; it may be empty."""

    text: str


@dataclass(frozen=True)
class NearMiss:
    """A text that is probably the command `run`, but may also be the title of a new task."""

    run: Run
    title: str

    @property
    def can_run(self) -> bool:
        """Whether the command does something as it is: `log` needs a duration, and `note` a text."""
        return bool(self.run.name not in ("log", "note") or self.run.seconds or (self.run.name == "note" and self.run.words))


Typed: TypeAlias = Run | Title | NearMiss


def parse(text: str) -> Typed:
    """What the text of a command means, as Slack sends it: with `&`, `<` and `>` escaped."""
    return parse_plain(unescape(text))


def parse_plain(text: str) -> Typed:
    """The same for a text as a person typed it."""
    title = _without_name(text.strip())
    typed = _with_blank(title)
    keys = [key for word in typed.split()[:20] if (key := words.key(word))]
    if not keys:
        return Run("help") if any(mark in typed for mark in _QUESTION_MARKS) else Title("")
    name, rest = keys[0], _rest(typed)
    meant = [key for key in keys if key not in FILLERS]
    if name == "reminders" and (turned := [key for key in keys[1:] if key == "on" or key not in FILLERS]) in (["on"], ["off"]):
        return Run(name, turned[0])
    if len(meant) == 1 and meant[0] in (*WITHOUT_WORDS, "start", "switch") and len(keys) < 20:
        return Run(meant[0])
    if name == "stop" and (at := clock_times.parse(rest)) is not None:
        return Run("stop", f"at {at:%H:%M}")
    if name in WITHOUT_WORDS:
        return NearMiss(Run(name), title)
    if name == "log":
        return _parse_log(rest, title)
    if name == "note" and rest and typed == title and title.lstrip(words.QUOTES)[:1].isupper():
        return NearMiss(Run(name, rest), title)  # "Note taking app", unlike "Note: the cable" and "note the cable"
    if name in WITH_WORDS:
        return Run(name, rest)
    return _near_miss(keys, rest, title) or Title(title)


def _without_name(typed: str) -> str:
    """The text without a `/task`, or a slash, that was typed once more."""
    if typed[:5].casefold() == "/task" and typed[5:6].strip() == "":
        typed = typed[5:].strip()
    first = typed.split(None, 1)[0] if typed else ""
    if first[:1] == "/" and words.key(first) in COMMANDS:
        return typed[1:]
    return typed


def _with_blank(typed: str) -> str:
    """The text with a blank instead of the mark after the name of a command: "log:1h30"."""
    first = typed.split(None, 1)[0] if typed else ""
    for mark in ":,;":
        name, found, _ = first.partition(mark)
        if found and words.key(name) in COMMANDS:
            return f"{name} {typed[len(name) + 1 :]}"
    return typed


def _rest(typed: str) -> str:
    """The text after the first word, without quotes around all of it, and without a colon or dash before it."""
    first, *rest = typed.split(None, 1)
    text = rest[0].lstrip(_LEADING) if rest else ""
    return text.rstrip(words.QUOTES) if first[0] in words.QUOTES else text


def _parse_log(rest: str, typed: str) -> Typed:
    text = rest[4:].lstrip() if rest[:4].casefold() == "for " else rest
    if not text:
        return Run("log")
    if (found := durations.parse(text)) is not None:
        return Run("log", found.rest.lstrip(_LEADING), found.seconds)
    if (found := durations.parse_number(text)) is not None:
        return NearMiss(Run("log", found.rest.lstrip(_LEADING), found.seconds), typed)
    if (at_end := durations.parse_end(text)) is not None:
        return NearMiss(Run("log", at_end[1].rstrip(_LEADING), at_end[0].seconds), typed)
    return NearMiss(Run("log"), typed)


def _near_miss(keys: list[str], rest: str, typed: str) -> NearMiss | None:
    """The command that was probably meant, if there is a typing error in its name; None if there is none."""
    name = keys[0]
    if len([key for key in keys if key not in FILLERS]) == 1:
        for command in (*WITHOUT_WORDS, "start", "switch", "note"):
            if words.is_one_error_apart(name, command):
                return NearMiss(Run(command), typed)
    # before other words it may be another word ("Smart home"), so that only two characters in the wrong order are an error
    for command in ("start", "switch", "note"):
        if words.is_transposed(name, command):
            return NearMiss(Run(command, rest), typed)
    if name.startswith("log") and (found := durations.parse(f"{name[3:]} {rest}")) is not None:
        return NearMiss(Run("log", found.rest.lstrip(_LEADING), found.seconds), typed)
    if words.is_transposed(name, "log") and (found := durations.parse(rest)) is not None:
        return NearMiss(Run("log", found.rest.lstrip(_LEADING), found.seconds), typed)
    return None
