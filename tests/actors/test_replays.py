"""Replays: carried by the relays, whoever asked for them; nothing is sent twice, and a canary keeps the rest from harm."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from typing import Any
from uuid import UUID

import pytest

from tests.actors.probe import Probe, ProbeChain
from tests.actors.probing import Ledger
from tests.faults.test_events import frozen
from tests.installation import CHECKOUT, eventually
from tests.sizes import LETTERS

# Letters that went out too soon after another at 10 a second: in no span of time are there more than that, and the 2 of a step.
TOO_FAST = """
    SELECT count(*) FROM replay_letters a JOIN replay_letters b ON b.n > a.n
    WHERE b.n - a.n > 10 * extract(epoch FROM b.sent_at - a.sent_at) + 2
"""

Json = dict[str, Any]


def dead(ledger: Ledger, *keys: str, order: str = "permanent", times: int = 1) -> list[UUID]:
    """Letters that died of a real failure, and whose cause is mended after so many times."""
    for key in keys:
        ledger.order(key, order, times)
    ids = ledger.put(*[Probe(key=key) for key in keys])
    for message_id in ids:
        ledger.becomes(message_id, "dead", seconds=40)
    return ids


def dead_command(ledger: Ledger, *arguments: str, code: int = 0) -> Any:
    """What `./stint dead … --json` prints."""
    result = ledger.stint.command("dead", "--json", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def ended(ledger: Ledger, replay_id: str) -> Json:
    state = "SELECT state FROM replays WHERE id = %s"
    eventually(lambda: ledger.one(state, replay_id) != "running", seconds=40, why="the replay has ended")
    eventually(lambda: ledger.one("SELECT count(*) FROM messages WHERE state IN ('ready', 'sent')") == 0, seconds=40)
    found: Json = dead_command(ledger, "watch", replay_id, code=3) if ledger.one(state, replay_id) == "stopped" else {}
    return found


def test_a_replay_drains_what_it_selected_and_says_what_became_of_it(ledger: Ledger) -> None:
    ids = dead(ledger, "a", "b", "c")
    [group] = dead_command(ledger)["items"]
    assert (group["actor"], group["error"], group["count"]) == ("probe", "schemas.errors.Permanent", 3)
    assert group["frame"] == "tests/actors/probe.py:_obey"

    replay = dead_command(ledger, "replay", "--group", group["fingerprint"], "--reason", "mended", "--watch")

    assert {name: replay[name] for name in ("state", "selected", "sent", "succeeded", "failedAgain", "running")} == {
        "state": "done", "selected": 3, "sent": 3, "succeeded": 3, "failedAgain": 0, "running": 0,
    }  # fmt: skip
    assert [ledger.state(message_id) for message_id in ids] == ["done"] * 3
    assert [ledger.effects(key) for key in "abc"] == [1] * 3
    assert dead_command(ledger, "replay", "--all", "--reason", "again", code=4)["selected"] == 0


def test_a_canary_that_dies_again_keeps_the_rest_where_it_is(ledger: Ledger) -> None:
    ids = dead(ledger, *"abcdef", times=2)
    replay = dead_command(ledger, "replay", "--all", "--reason", "hoping", "--canary", "2", "--watch", code=3)
    assert (replay["state"], replay["sent"], replay["failedAgain"]) == ("stopped", 2, 2)
    assert "died again" in replay["stoppedBecause"]
    assert [ledger.state(message_id) for message_id in ids] == ["dead"] * 6
    events = "SELECT count(*) FROM message_events WHERE action = 'replay'"
    assert ledger.one(events) == 2

    replay = dead_command(ledger, "replay", "--all", "--reason", "mended now", "--canary", "2", "--watch", code=3)
    assert (replay["state"], replay["stoppedBecause"] is not None) == ("stopped", True)  # four of them are not mended yet
    [group] = dead_command(ledger, "groups")["items"]
    assert group["replayed"] >= 2 and group["failedAgain"] >= 1


def test_what_dies_after_a_replay_was_made_is_not_part_of_it(ledger: Ledger) -> None:
    dead(ledger, *"abcd")
    replay = dead_command(ledger, "replay", "--all", "--reason", "mended", "--rate", "1")
    (late,) = dead(ledger, "late")
    eventually(lambda: ledger.one("SELECT state FROM replays WHERE id = %s", replay["id"]) == "done", seconds=40)
    followed = dead_command(ledger, "watch", replay["id"])
    assert (followed["selected"], followed["sent"], followed["succeeded"], followed["newSince"]) == (4, 4, 4, 1)
    assert ledger.state(late) == "dead"


def test_a_letter_is_shown_with_every_attempt_its_history_its_cause_and_what_it_caused(ledger: Ledger) -> None:
    ledger.order("k", "fail", times=6)
    (chain,) = ledger.put(ProbeChain(key="k"))
    caused = "SELECT id FROM messages WHERE cause_id = %s"
    message_id = eventually(lambda: ledger.conn.execute(caused, (chain,)).fetchall())[0][0]
    ledger.becomes(message_id, "dead", seconds=40)
    dead_command(ledger, "replay", str(message_id), "--reason", "mended", "--watch")

    shown = dead_command(ledger, "show", str(message_id))
    assert [failure["n"] for failure in shown["failures"]] == [1, 2, 3, 4, 5, 6]
    for failure in shown["failures"]:
        assert failure["frame"] == "tests/actors/probe.py:_obey" and failure["worker"]
        assert 'raise ValueError("as ordered")' in failure["traceback"]
    assert (shown["body"], shown["state"], shown["replays"]) == ({"key": "k"}, "done", 1)
    assert [(event["action"], event["reason"]) for event in shown["history"]] == [("replay", "mended")]
    assert (shown["cause"]["id"], shown["cause"]["actor"], shown["cause"]["state"]) == (str(chain), "probe_chain", "done")
    [child] = dead_command(ledger, "show", str(chain))["caused"]
    assert (child["id"], child["actor"], child["state"]) == (str(message_id), "probe", "done")

    told = ledger.stint.command("dead", "show", str(message_id)).stdout
    for part in (
        f"caused by probe_chain {chain} (done)", '"key": "k"', "attempt 6, ", "ValueError: as ordered", "in _obey",
        "replay by ", ": mended",
    ):  # fmt: skip
        assert part in told
    assert f"caused probe {message_id} (done)" in ledger.stint.command("dead", "show", str(chain)).stdout


def test_on_a_terminal_a_bar_shows_how_far_a_replay_is(ledger: Ledger) -> None:
    dead(ledger, *"abcdef")
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "dead", "replay", "--all", "--reason", "mended", "--rate", "2", "--watch"],
        cwd=CHECKOUT, env=os.environ | ledger.stint.environment | {"TERM": "xterm", "COLUMNS": "200"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as watching:  # fmt: skip
        os.close(theirs)
        shown = b""

        def ended() -> bool:
            nonlocal shown
            with contextlib.suppress(OSError):  # nothing there yet, or nobody there any more
                shown += os.read(ours, 65536)
            return watching.poll() is not None

        eventually(ended, seconds=40)
        with contextlib.suppress(OSError):  # all is read, and nobody is there any more
            while rest := os.read(ours, 65536):
                shown += rest
    os.close(ours)
    assert watching.returncode == 0
    text = shown.decode()
    bars = re.findall(
        r"6 selected, (\d) sent, (\d) succeeded, 0 failed again, \d still running, 0 skipped, 0 new since.*?(\d+)%", text
    )
    assert len({sent for sent, _, _ in bars}) > 1, text
    assert all(int(succeeded) <= int(sent) for sent, succeeded, _ in bars)
    assert "done; 6 selected, 6 sent, 6 succeeded" in text


def test_two_replays_of_the_same_letters_send_each_once(ledger: Ledger) -> None:
    ids = dead(ledger, *[f"k{number}" for number in range(20)])
    first = dead_command(ledger, "replay", "--all", "--reason", "one", "--rate", "5")
    second = dead_command(ledger, "replay", "--all", "--reason", "two")
    for replay in (first, second):
        ended(ledger, replay["id"])
    assert ledger.one("SELECT count(*) FROM message_events WHERE action = 'replay'") == 20
    assert [ledger.effects(f"k{number}") for number in range(20)] == [1] * 20
    assert {ledger.state(message_id) for message_id in ids} == {"done"}
    outcomes = dict(ledger.conn.execute("SELECT outcome, count(*) FROM replay_letters GROUP BY 1").fetchall())
    assert outcomes.get("succeeded") == 20 and set(outcomes) <= {"succeeded", "skipped"}


def test_a_replay_survives_the_death_of_relay_and_worker(ledger: Ledger) -> None:
    ids = dead(ledger, *[f"k{number}" for number in range(60)])
    replay = dead_command(ledger, "replay", "--all", "--reason", "mended", "--rate", "20")
    for _ in range(3):
        eventually(lambda: ledger.one("SELECT count(*) FROM replay_letters WHERE sent_at IS NOT NULL") > 0)
        for name in ("relay", "work"):
            ledger.stint.kill(name)
            ledger.stint.start(name)
    ended(ledger, replay["id"])
    assert [ledger.effects(f"k{number}") for number in range(60)] == [1] * 60
    assert {ledger.state(message_id) for message_id in ids} == {"done"}


def test_the_rate_is_kept(ledger: Ledger) -> None:
    dead(ledger, *[f"k{number}" for number in range(30)])
    replay = dead_command(ledger, "replay", "--all", "--reason", "gently", "--rate", "10", "--canary", "3")
    ended(ledger, replay["id"])
    assert ledger.one(TOO_FAST) == 0


@pytest.mark.parametrize("canary", ["3", "25"])
def test_a_relay_that_stood_still_does_not_catch_up(canary: str, ledger: Ledger) -> None:
    dead(ledger, *[f"k{number}" for number in range(30)])
    replay = dead_command(ledger, "replay", "--all", "--reason", "gently", "--rate", "10", "--canary", canary)
    sent = "SELECT count(*) FROM replay_letters WHERE replay_id = %s AND sent_at IS NOT NULL"
    eventually(lambda: ledger.one(sent, replay["id"]) > 6)
    with frozen([ledger.stint.processes["relay"].pid]):
        time.sleep(2)
    ended(ledger, replay["id"])
    assert ledger.one(TOO_FAST) == 0


def test_a_cancelled_replay_leaves_dead_what_it_had_not_sent(ledger: Ledger) -> None:
    dead(ledger, *[f"k{number}" for number in range(30)])
    replay = dead_command(ledger, "replay", "--all", "--reason", "slowly", "--rate", "2")
    eventually(lambda: ledger.one("SELECT count(*) FROM replay_letters WHERE sent_at IS NOT NULL") > 0)
    cancelled = dead_command(ledger, "cancel", replay["id"])
    assert cancelled["state"] == "cancelled"
    sent = cancelled["sent"]
    eventually(lambda: ledger.one("SELECT count(*) FROM messages WHERE state = 'done'") == sent)
    assert ledger.one("SELECT count(*) FROM messages WHERE state = 'dead'") == 30 - sent > 0
    eventually(
        lambda: dead_command(ledger, "watch", replay["id"])["succeeded"] == sent,
        why="what was under way is followed to its end",
    )
    assert ledger.stint.command("dead", "cancel", replay["id"]).returncode == 1


@pytest.mark.parametrize("arguments", [(), ("--reason", "")])
def test_a_replay_needs_a_reason(ledger: Ledger, arguments: tuple[str, ...]) -> None:
    result = ledger.stint.command("dead", "replay", "--all", *arguments)
    assert result.returncode == 1 and "--reason" in result.stderr


def test_what_is_discarded_is_kept_and_can_be_restored(ledger: Ledger) -> None:
    (message_id,) = dead(ledger, "k")
    assert dead_command(ledger, "discard", str(message_id)[:8], "--reason", "nobody needs it") == {"count": 1}
    assert ledger.state(message_id) == "discarded"
    assert dead_command(ledger, "list", code=4) == []
    assert [item["id"] for item in dead_command(ledger, "list", "--in-state", "discarded")] == [str(message_id)]
    assert dead_command(ledger, "discard", str(message_id), "--reason", "again", code=4) == {"count": 0}
    assert dead_command(ledger, "replay", str(message_id), "--reason", "mended", code=4)["selected"] == 0
    assert dead_command(ledger, "restore", str(message_id), "--reason", "a mistake") == {"count": 1}
    assert [event["action"] for event in dead_command(ledger, "show", str(message_id))["history"]] == ["discard", "restore"]


def test_an_edited_body_that_fits_is_replayed_and_one_that_does_not_is_refused(ledger: Ledger) -> None:
    (message_id,) = dead(ledger, "k")
    refused = ledger.stint.command("dead", "edit", str(message_id), "--set", "colour=red", "--reason", "typo")
    # the terminal knows no probes: those are the tests' own
    assert refused.returncode == 1 and "body" in refused.stderr
    assert ledger.state(message_id) == "dead"


def test_the_people_on_call_are_told_once_of_each_kind(ledger: Ledger) -> None:
    ledger.stint.kill("relay")
    ledger.stint.environment["OPS_EMAIL"] = "ops@example.com"
    ledger.stint.start("relay")
    dead(ledger, "a", "b", "c")
    dead(ledger, "d", "e", order="fail", times=5)
    # there is no mail server here, so these mails die themselves, which is a kind of its own
    bodies = "SELECT 1 FROM messages WHERE actor = 'send_mail' AND body->>'subject' = 'Stint: probe fails for good'"
    eventually(lambda: len(ledger.conn.execute(bodies).fetchall()) == 2, why="two mails")
    dead(ledger, "f")
    assert len(ledger.conn.execute(bodies).fetchall()) == 2


def test_workers_and_relays_say_that_they_are_alive_and_what_they_did(ledger: Ledger) -> None:
    for message_id in ledger.put(Probe(key="a"), Probe(key="b")):
        ledger.becomes(message_id, "done")
    kinds = "SELECT array_agg(kind ORDER BY kind) FROM heartbeats WHERE seen_at > now() - interval '16 seconds'"
    eventually(lambda: ledger.one(kinds) == ["relay", "work"])
    handled = "SELECT coalesce(max(handled), 0) FROM handler_totals WHERE actor = 'probe'"
    eventually(
        lambda: ledger.one(handled) == 2,
        why=str(ledger.conn.execute("SELECT * FROM handler_totals").fetchall()) + ledger.stint.log("work")[-1500:],
    )


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(400)
def test_letters_of_five_kinds_are_drained_while_everything_is_killed(ledger: Ledger) -> None:
    kinds = ("permanent", "fail", "exit", "lookup", "cancel")
    keys = {f"{kind}-{number}": kind for kind in kinds for number in range(LETTERS)}
    for key, kind in keys.items():
        ledger.order(key, kind, times=1 if kind == "permanent" else 5)
    ids = ledger.put(*[Probe(key=key) for key in keys])
    dead_now = "SELECT count(*) FROM messages WHERE state = 'dead'"
    eventually(lambda: ledger.one(dead_now) == len(keys), seconds=150, why="all of them are dead")
    assert len(dead_command(ledger)["items"]) == 5

    replay = dead_command(ledger, "replay", "--all", "--reason", "mended", "--rate", "50", "--canary", "5")
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "dead", "watch", replay["id"]],
        cwd=CHECKOUT, env=os.environ | ledger.stint.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as watching:  # fmt: skip
        sent = "SELECT count(*) FROM replay_letters WHERE sent_at IS NOT NULL"
        for step in range(1, 5):
            eventually(lambda least=LETTERS * step - LETTERS // 2: ledger.one(sent) >= least, seconds=60)
            watching.kill()
            for name in ("relay", "work"):
                ledger.stint.kill(name)
                ledger.stint.start(name)
        # somebody else is impatient
        impatient = ledger.stint.command("dead", "--json", "replay", "--all", "--reason", "me too")
        assert impatient.returncode == (0 if json.loads(impatient.stdout)["selected"] else 4), impatient.stderr
    eventually(lambda: ledger.one("SELECT count(*) FROM replays WHERE state = 'running'") == 0, seconds=90)

    assert {ledger.state(message_id) for message_id in ids} == {"done"}
    assert ledger.one("SELECT count(*) FROM probe") == ledger.one("SELECT count(DISTINCT key) FROM probe") == len(keys)
    assert ledger.one("SELECT count(*) FROM message_events WHERE action = 'replay'") == len(keys)
