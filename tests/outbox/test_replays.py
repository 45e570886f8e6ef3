"""Replays: the relays advance them; nothing is sent twice, and a failing canary stops the replay."""

import json
import os
import time
from typing import Any
from uuid import UUID

import pytest

from schemas.outbox.dead_letters.replay_steps import MOST_UNDER_WAY
from tests.faults.test_events import frozen
from tests.outbox.probe import Probe, ProbeChain
from tests.outbox.probes import Probes
from tests.support.fork_server import Process
from tests.support.installation import CHECKOUT, eventually
from tests.support.sizes import DEAD_LETTERS, FULL

# Messages sent too soon at a rate of 10 per second: in any period at most the rate is allowed, and 2 more for one step.
TOO_FAST = """
    SELECT count(*) FROM replay_messages a JOIN replay_messages b ON b.n > a.n
    WHERE b.n - a.n > 10 * extract(epoch FROM b.sent_at - a.sent_at) + 2
"""

Json = dict[str, Any]


def dead(probes: Probes, *keys: str, order: str = "permanent", times: int = 1) -> list[UUID]:
    """Dead letters of probes that fail `times` times. Returns their ids."""
    for key in keys:
        probes.instruct(key, order, times)
    ids = probes.enqueue(*[Probe(key=key) for key in keys])
    for message_id in ids:
        probes.wait_for(message_id, "dead", seconds=40)
    return ids


def dead_command(probes: Probes, *arguments: str, code: int = 0) -> Any:
    """What `./stint dead … --json` prints."""
    result = probes.stint.command("dead", "--json", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def ended(probes: Probes, replay_id: str) -> Json:
    state = "SELECT state FROM replays WHERE id = %s"
    eventually(lambda: probes.value(state, replay_id) != "running", seconds=40, why="the replay has ended")
    eventually(lambda: probes.value("SELECT count(*) FROM messages WHERE state IN ('ready', 'sent')") == 0, seconds=40)
    found: Json = dead_command(probes, "watch", replay_id, code=3) if probes.value(state, replay_id) == "stopped" else {}
    return found


def test_a_replay_sends_its_selection_and_reports_the_outcomes(probes: Probes) -> None:
    ids = dead(probes, "a", "b", "c")
    [group] = dead_command(probes)["items"]
    assert (group["actor"], group["error"], group["count"]) == ("probe", "schemas.errors.NonRetryable", 3)
    assert group["frame"] == "tests/outbox/probe.py:_follow"

    replay = dead_command(probes, "replay", "--group", group["fingerprint"], "--reason", "fixed", "--watch")

    assert {name: replay[name] for name in ("state", "selected", "sent", "succeeded", "failedAgain", "running")} == {
        "state": "done", "selected": 3, "sent": 3, "succeeded": 3, "failedAgain": 0, "running": 0,
    }  # fmt: skip
    assert [probes.state(message_id) for message_id in ids] == ["done"] * 3
    assert [probes.effects(key) for key in "abc"] == [1] * 3
    assert dead_command(probes, "replay", "--all", "--reason", "again", code=4)["selected"] == 0


def test_a_canary_that_dies_again_stops_the_replay(probes: Probes) -> None:
    ids = dead(probes, *"abcdef", times=2)
    replay = dead_command(probes, "replay", "--all", "--reason", "hoping", "--canary", "2", "--watch", code=3)
    assert (replay["state"], replay["sent"], replay["failedAgain"]) == ("stopped", 2, 2)
    assert "failed again" in replay["stoppedBecause"]
    assert [probes.state(message_id) for message_id in ids] == ["dead"] * 6
    events = "SELECT count(*) FROM message_events WHERE action = 'replay'"
    assert probes.value(events) == 2

    replay = dead_command(probes, "replay", "--all", "--reason", "fixed now", "--canary", "2", "--watch", code=3)
    assert (replay["state"], replay["stoppedBecause"] is not None) == ("stopped", True)  # four of them still fail
    [group] = dead_command(probes, "groups")["items"]
    assert group["replayed"] >= 2 and group["failedAgain"] >= 1


def test_messages_that_die_after_a_replay_was_started_are_not_part_of_it(probes: Probes) -> None:
    dead(probes, *"abcd")
    replay = dead_command(probes, "replay", "--all", "--reason", "fixed", "--rate", "1")
    (late,) = dead(probes, "late")
    eventually(lambda: probes.value("SELECT state FROM replays WHERE id = %s", replay["id"]) == "done", seconds=40)
    followed = dead_command(probes, "watch", replay["id"])
    assert (followed["selected"], followed["sent"], followed["succeeded"], followed["newSince"]) == (4, 4, 4, 1)
    assert probes.state(late) == "dead"


def test_a_dead_letter_is_shown_with_its_attempts_history_cause_and_caused_messages(probes: Probes) -> None:
    probes.instruct("k", "fail", times=6)
    (chain,) = probes.enqueue(ProbeChain(key="k"))
    caused = "SELECT id FROM messages WHERE cause_id = %s"
    message_id = eventually(lambda: probes.conn.execute(caused, (chain,)).fetchall())[0][0]
    probes.wait_for(message_id, "dead", seconds=40)
    dead_command(probes, "replay", str(message_id), "--reason", "fixed", "--watch")

    shown = dead_command(probes, "show", str(message_id))
    assert [failure["n"] for failure in shown["failures"]] == [1, 2, 3, 4, 5, 6]
    for failure in shown["failures"]:
        assert failure["frame"] == "tests/outbox/probe.py:_follow" and failure["worker"]
        assert 'raise ValueError("as instructed")' in failure["traceback"]
    assert (shown["body"], shown["state"], shown["replays"]) == ({"key": "k"}, "done", 1)
    assert [(event["action"], event["reason"]) for event in shown["history"]] == [("replay", "fixed")]
    assert (shown["cause"]["id"], shown["cause"]["actor"], shown["cause"]["state"]) == (str(chain), "probe_chain", "done")
    [child] = dead_command(probes, "show", str(chain))["caused"]
    assert (child["id"], child["actor"], child["state"]) == (str(message_id), "probe", "done")

    printed = probes.stint.command("dead", "show", str(message_id)).stdout
    for part in (
        f"caused by probe_chain {chain} (done)", '"key": "k"', "attempt 6, ", "ValueError: as instructed", "in _follow",
        "replay by ", ": fixed",
    ):  # fmt: skip
        assert part in printed
    assert f"caused probe {message_id} (done)" in probes.stint.command("dead", "show", str(chain)).stdout


def test_two_replays_of_the_same_messages_send_each_once(probes: Probes) -> None:
    ids = dead(probes, *[f"k{number}" for number in range(20)])
    first = dead_command(probes, "replay", "--all", "--reason", "one", "--rate", "5")
    second = dead_command(probes, "replay", "--all", "--reason", "two")
    for replay in (first, second):
        ended(probes, replay["id"])
    assert probes.value("SELECT count(*) FROM message_events WHERE action = 'replay'") == 20
    assert [probes.effects(f"k{number}") for number in range(20)] == [1] * 20
    assert {probes.state(message_id) for message_id in ids} == {"done"}
    outcomes = dict(probes.conn.execute("SELECT outcome, count(*) FROM replay_messages GROUP BY 1").fetchall())
    assert outcomes.get("succeeded") == 20 and set(outcomes) <= {"succeeded", "skipped"}


def test_a_replay_continues_after_relay_and_worker_were_killed(own_probes: Probes) -> None:
    ids = dead(own_probes, *[f"k{number}" for number in range(60)])
    replay = dead_command(own_probes, "replay", "--all", "--reason", "fixed", "--rate", "20")
    for _ in range(2):
        eventually(lambda: own_probes.value("SELECT count(*) FROM replay_messages WHERE sent_at IS NOT NULL") > 0)
        for name in ("relay", "work"):
            own_probes.stint.kill(name)
            own_probes.stint.start(name)
    ended(own_probes, replay["id"])
    assert [own_probes.effects(f"k{number}") for number in range(60)] == [1] * 60
    assert {own_probes.state(message_id) for message_id in ids} == {"done"}


def test_a_replay_keeps_its_rate(probes: Probes) -> None:
    dead(probes, *[f"k{number}" for number in range(30)])
    replay = dead_command(probes, "replay", "--all", "--reason", "gently", "--rate", "10", "--canary", "3")
    ended(probes, replay["id"])
    assert probes.value(TOO_FAST) == 0


@pytest.mark.parametrize("canary", ["3", "25"])
def test_after_a_pause_of_the_relay_a_replay_keeps_its_rate(canary: str, probes: Probes) -> None:
    dead(probes, *[f"k{number}" for number in range(30)])
    replay = dead_command(probes, "replay", "--all", "--reason", "gently", "--rate", "10", "--canary", canary)
    sent = "SELECT count(*) FROM replay_messages WHERE replay_id = %s AND sent_at IS NOT NULL"
    eventually(lambda: probes.value(sent, replay["id"]) > 6)
    with frozen([probes.stint.processes["relay"].pid]):
        time.sleep(2)
    ended(probes, replay["id"])
    assert probes.value(TOO_FAST) == 0


def test_messages_that_a_cancelled_replay_had_not_sent_stay_dead(probes: Probes) -> None:
    dead(probes, *[f"k{number}" for number in range(30)])
    replay = dead_command(probes, "replay", "--all", "--reason", "slowly", "--rate", "2")
    eventually(lambda: probes.value("SELECT count(*) FROM replay_messages WHERE sent_at IS NOT NULL") > 0)
    cancelled = dead_command(probes, "cancel", replay["id"])
    assert cancelled["state"] == "cancelled"
    sent = cancelled["sent"]
    eventually(lambda: probes.value("SELECT count(*) FROM messages WHERE state = 'done'") == sent)
    assert probes.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 30 - sent > 0
    eventually(
        lambda: dead_command(probes, "watch", replay["id"], code=5)["succeeded"] == sent,
        why="the outcomes of messages that were sent are still recorded",
    )
    assert probes.stint.command("dead", "cancel", replay["id"]).returncode == 1


@pytest.mark.parametrize("arguments", [(), ("--reason", "")])
def test_a_replay_needs_a_reason(probes: Probes, arguments: tuple[str, ...]) -> None:
    result = probes.stint.command("dead", "replay", "--all", *arguments)
    assert result.returncode == 1 and "--reason" in result.stderr


def test_a_discarded_dead_letter_is_kept_and_can_be_restored(probes: Probes) -> None:
    (message_id,) = dead(probes, "k")
    assert dead_command(probes, "discard", str(message_id)[:8], "--reason", "nobody needs it") == {"count": 1}
    assert probes.state(message_id) == "discarded"
    assert dead_command(probes, "list", code=4) == []
    assert [item["id"] for item in dead_command(probes, "list", "--in-state", "discarded")] == [str(message_id)]
    assert dead_command(probes, "discard", str(message_id), "--reason", "again", code=4) == {"count": 0}
    assert dead_command(probes, "replay", str(message_id), "--reason", "fixed", code=4)["selected"] == 0
    assert dead_command(probes, "restore", str(message_id), "--reason", "a mistake") == {"count": 1}
    assert [event["action"] for event in dead_command(probes, "show", str(message_id))["history"]] == ["discard", "restore"]


def test_an_edited_body_that_does_not_fit_its_actor_is_refused(probes: Probes) -> None:
    (message_id,) = dead(probes, "k")
    refused = probes.stint.command("dead", "edit", str(message_id), "--set", "colour=red", "--reason", "typo")
    # the command does not import the probes, so it does not know their actor
    assert refused.returncode == 1 and "body" in refused.stderr
    assert probes.state(message_id) == "dead"


def test_the_person_on_call_gets_one_alert_per_group(own_probes: Probes) -> None:
    own_probes.stint.kill("relay")
    own_probes.stint.environment["OPS_EMAIL"] = "ops@example.com"
    own_probes.stint.start("relay")
    dead(own_probes, "a", "b", "c")
    dead(own_probes, "d", "e", order="fail", times=5)
    # there is no mail server here, so the alerts' mails die too, which is another group
    bodies = "SELECT 1 FROM messages WHERE actor = 'send_mail' AND body->>'subject' = 'Stint: probe fails permanently'"
    eventually(lambda: len(own_probes.conn.execute(bodies).fetchall()) == 2, why="two mails")
    dead(own_probes, "f")
    assert len(own_probes.conn.execute(bodies).fetchall()) == 2


def test_workers_and_relays_record_heartbeats_and_handler_metrics(own_probes: Probes) -> None:
    for message_id in own_probes.enqueue(Probe(key="a"), Probe(key="b")):
        own_probes.wait_for(message_id, "done")
    kinds = "SELECT array_agg(kind ORDER BY kind) FROM heartbeats WHERE seen_at > now() - interval '16 seconds'"
    eventually(lambda: own_probes.value(kinds) == ["relay", "work"])
    handled = "SELECT coalesce(max(handled), 0) FROM handler_totals WHERE actor = 'probe'"
    eventually(
        lambda: own_probes.value(handled) == 2,
        why=str(own_probes.conn.execute("SELECT * FROM handler_totals").fetchall()) + own_probes.stint.log("work")[-1500:],
    )


@pytest.mark.slow
def test_a_fresh_message_waits_for_few_messages_of_a_replay(probes: Probes) -> None:
    """Counted in messages, not in seconds: a busy machine makes no difference."""
    probes.conn.execute(
        """
        INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, error)
        SELECT gen_random_uuid(), 'probe', 'bills', jsonb_build_object('key', 'old'), 'dead', 5, 5, 'E: no'
        FROM generate_series(1, 600)
        """
    )
    dead_command(probes, "replay", "--all", "--reason", "fixed", "--rate", "10000")
    eventually(lambda: probes.effects("old") >= 50, why="the replay is under way")
    overtaken_by = []
    for number in range(3):
        before = probes.effects("old")
        (fresh,) = probes.enqueue(Probe(key=f"fresh-{number}"))
        probes.wait_for(fresh, "done")
        done = "SELECT count(*) FROM probe o, probe f WHERE o.key = 'old' AND f.key = %s AND o.at < f.at"
        overtaken_by.append(probes.value(done, f"fresh-{number}") - before)
    print(f"messages of the replay that were handled before a fresh one: {overtaken_by}")
    assert max(overtaken_by) <= 3 * MOST_UNDER_WAY, "those in the queue, and what other threads do meanwhile"
    eventually(lambda: probes.effects("old") == 600, seconds=60, why="the replay has sent all of them")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_dead_letters_of_five_kinds_are_replayed_while_all_processes_are_killed(own_probes: Probes) -> None:
    kinds = ("permanent", "fail", "exit", "lookup", "cancel")
    keys = {f"{kind}-{number}": kind for kind in kinds for number in range(DEAD_LETTERS)}
    for key, kind in keys.items():
        own_probes.instruct(key, kind, times=1 if kind == "permanent" else 5)
    ids = own_probes.enqueue(*[Probe(key=key) for key in keys])
    dead_now = "SELECT count(*) FROM messages WHERE state = 'dead'"
    eventually(lambda: own_probes.value(dead_now) == len(keys), seconds=150, why="all of them are dead")
    assert len(dead_command(own_probes)["items"]) == 5

    replay = dead_command(own_probes, "replay", "--all", "--reason", "fixed", "--rate", "50", "--canary", "5")
    watching = Process(
        ["ops.cli", "dead", "watch", replay["id"]],
        cwd=CHECKOUT, env=os.environ | own_probes.stint.environment, log=own_probes.stint.directory / "watch.log",
    )  # fmt: skip
    try:
        sent = "SELECT count(*) FROM replay_messages WHERE sent_at IS NOT NULL"
        for step in (1, 2, 3, 4) if FULL else (1, 3):
            eventually(lambda least=DEAD_LETTERS * step - DEAD_LETTERS // 2: own_probes.value(sent) >= least, seconds=60)
            watching.kill()
            for name in ("relay", "work"):
                own_probes.stint.kill(name)
                own_probes.stint.start(name)
        # a second replay at the same time
        second = own_probes.stint.command("dead", "--json", "replay", "--all", "--reason", "again")
        assert second.returncode == (0 if json.loads(second.stdout)["selected"] else 4), second.stderr
    finally:
        watching.kill()
    eventually(lambda: own_probes.value("SELECT count(*) FROM replays WHERE state = 'running'") == 0, seconds=90)

    assert {own_probes.state(message_id) for message_id in ids} == {"done"}
    effects = own_probes.conn.execute("SELECT count(*), count(DISTINCT key) FROM probe").fetchone()
    assert effects == (len(keys), len(keys))
    assert own_probes.value("SELECT count(*) FROM message_events WHERE action = 'replay'") == len(keys)
