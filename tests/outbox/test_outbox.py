"""The outbox with real workers: an effect happens once, a failed attempt is recorded, nothing is lost."""

import asyncio
import signal
from datetime import timedelta
from uuid import UUID

import pytest

from schemas.outbox.dead_letters import actions
from schemas.postgres.connection import Connection
from tests.outbox.probe import Probe, ProbeCall, ProbeChain, ProbeOneCall, SlowProbe, SlowProbeCall
from tests.outbox.probes import Probes
from tests.support.installation import eventually


def test_an_effect_and_its_done_commit_together(probes: Probes) -> None:
    ids = probes.enqueue(*[Probe(key=f"k{number}") for number in range(50)])
    for message_id in ids:
        probes.wait_for(message_id, "done")
    assert [probes.effects(f"k{number}") for number in range(50)] == [1] * 50


def test_a_message_of_a_transaction_that_rolls_back_does_not_exist(probes: Probes) -> None:
    count = probes.value("SELECT count(*) FROM messages")
    with pytest.raises(ZeroDivisionError), probes.stint.sql() as conn, conn.transaction():
        conn.execute(
            "INSERT INTO messages (id, actor, queue, body, max_attempts) VALUES (gen_random_uuid(), 'probe', 'bills', '{}', 5)"
        )
        raise ZeroDivisionError
    assert probes.value("SELECT count(*) FROM messages") == count


def test_a_message_that_a_handler_enqueues_names_its_cause(probes: Probes) -> None:
    (chain,) = probes.enqueue(ProbeChain(key="chained"))
    probes.wait_for(chain, "done")
    eventually(lambda: probes.effects("chained") == 1)
    assert probes.value("SELECT actor FROM messages WHERE cause_id = %s", chain) == "probe"


def test_a_failed_attempt_has_no_effect_and_is_retried_and_its_traceback_recorded(probes: Probes) -> None:
    probes.instruct("k", "fail", times=2)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "done")
    assert probes.effects("k") == 1
    assert probes.attempts(message_id) == [(1, "ValueError"), (2, "ValueError")]
    traceback = probes.value("SELECT traceback FROM message_attempts WHERE message_id = %s AND n = 1", message_id)
    assert "as instructed" in traceback and "in probe" in traceback


def test_the_fifth_failure_makes_it_dead_and_a_replay_gives_it_five_more(probes: Probes) -> None:
    probes.instruct("k", "fail", times=7)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "dead", seconds=30)
    assert [n for n, _ in probes.attempts(message_id)] == [1, 2, 3, 4, 5]
    assert probes.effects("k") == 0

    assert replay(probes, message_id) is True
    assert replay(probes, message_id) is False  # a second one is a no-op
    probes.wait_for(message_id, "done", seconds=30)
    assert [n for n, _ in probes.attempts(message_id)] == [1, 2, 3, 4, 5, 6, 7]
    assert probes.effects("k") == 1
    events = probes.conn.execute(
        "SELECT who, action, reason FROM message_events WHERE message_id = %s", (message_id,)
    ).fetchall()
    assert events == [("ann@example.com", "replay", "fixed")]


def replay(probes: Probes, message_id: UUID) -> bool:
    async def go() -> bool:
        async with (
            await Connection.connect(probes.stint.database_url, autocommit=True) as conn,
            conn.transaction(),
        ):
            return message_id in await actions.replay(conn, [message_id], who="ann@example.com", reason="fixed")

    return asyncio.run(go())


def test_a_non_retryable_error_makes_a_message_dead_at_once(probes: Probes) -> None:
    probes.instruct("k", "permanent")
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "dead")
    assert len(probes.attempts(message_id)) == 1


def test_a_body_that_no_longer_fits_makes_a_message_dead_and_names_the_fields(probes: Probes) -> None:
    message_id = probes.value(
        "INSERT INTO messages (id, actor, queue, body, max_attempts)"
        """ VALUES (gen_random_uuid(), 'probe', 'bills', '{"key": 5, "colour": "red"}', 5) RETURNING id"""
    )
    probes.wait_for(message_id, "dead")
    error = probes.value("SELECT error FROM messages WHERE id = %s", message_id)
    assert "key must be a text" in error and "no field colour" in error


@pytest.mark.parametrize("order", ["later:0.1", "deadlock"])
def test_retry_after_and_a_deadlock_do_not_count_as_attempts(probes: Probes, order: str) -> None:
    probes.instruct("k", order, times=7)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "done", seconds=60)
    assert len(probes.attempts(message_id)) == 7
    assert probes.effects("k") == 1


@pytest.mark.parametrize("order", ["hang", "query"])
def test_a_handler_past_its_timeout_is_cancelled_and_retried(probes: Probes, order: str) -> None:
    probes.instruct("k", order)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "done")
    assert probes.attempts(message_id) == [(1, "TimeoutError")]
    assert probes.effects("k") == 1


def test_a_lost_connection_is_not_a_failed_attempt(probes: Probes) -> None:
    probes.instruct("k", "disconnect", times=2)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "done")
    assert (probes.attempts(message_id), probes.effects("k")) == ([], 1)


def test_a_handler_that_always_loses_its_connection_is_a_failed_attempt_in_the_end(probes: Probes) -> None:
    probes.instruct("k", "disconnect", times=1000)
    (message_id,) = probes.enqueue(Probe(key="k"))
    eventually(lambda: probes.attempts(message_id), seconds=30)


def test_a_message_that_kills_its_worker_is_dead_after_five_crashes_and_all_others_are_done(own_probes: Probes) -> None:
    own_probes.instruct("poison", "die", times=100)
    keys = [f"k{number}" for number in range(30)]
    ids = own_probes.enqueue(*[Probe(key=key) for key in (*keys[:15], "poison", *keys[15:])])
    poison = ids[15]

    def poison_is_dead() -> bool:
        own_probes.restart_worker()
        return own_probes.state(poison) == "dead"

    eventually(poison_is_dead, seconds=90, why="the poison is dead")
    assert own_probes.attempts(poison) == [(n, "WorkerDied") for n in range(1, 6)]
    for message_id in set(ids) - {poison}:
        own_probes.wait_for(message_id, "done", seconds=30)
    assert [own_probes.effects(key) for key in keys] == [1] * 30
    others = "SELECT coalesce(max(attempts), 0) FROM messages WHERE actor = 'probe' AND id <> %s"
    assert own_probes.value(others, poison) == 0


def test_a_restart_of_the_worker_counts_no_attempt_for_prefetched_messages(own_probes: Probes) -> None:
    keys = [f"k{number}" for number in range(12)]
    for key in keys:
        own_probes.instruct(key, "sleep:2")
    ids = own_probes.enqueue(*[SlowProbe(key=key) for key in keys])
    count_by_state = "SELECT count(*) FROM messages WHERE state = %s"
    eventually(lambda: own_probes.value(count_by_state, "ready") == 0 and own_probes.value(count_by_state, "done") > 0)
    own_probes.stint.kill("work", signal.SIGTERM)
    assert own_probes.value(count_by_state, "sent") > 0
    own_probes.stint.start("work")
    for message_id in ids:
        own_probes.wait_for(message_id, "done", seconds=60)
    assert own_probes.value("SELECT max(attempts) FROM messages") == 0


@pytest.mark.parametrize("order", ["nul", "surrogate", "cancel", "exit"])
def test_an_exception_of_any_class_and_text_is_recorded(probes: Probes, order: str) -> None:
    probes.instruct("k", order)
    (message_id,) = probes.enqueue(Probe(key="k"))
    probes.wait_for(message_id, "done")
    assert len(probes.attempts(message_id)) == 1
    assert probes.effects("k") == 1


def test_an_external_call_has_no_open_transaction_and_completes_with_its_result(probes: Probes) -> None:
    probes.instruct("k", "before sleep:4")
    (message_id,) = probes.enqueue(SlowProbeCall(key="k"))
    probes.wait_for(message_id, "calling")
    open_transactions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
    # relays have short ones; the call's would be open until the call is over
    eventually(lambda: probes.value(open_transactions) == 0)
    assert probes.state(message_id) == "calling"
    probes.wait_for(message_id, "done")
    assert (probes.calls("k"), probes.effects("k")) == ([False], 1)


def test_after_a_failed_call_the_next_attempt_knows_that_its_outcome_is_unknown(probes: Probes) -> None:
    probes.instruct("k", "after fail")
    (message_id,) = probes.enqueue(ProbeCall(key="k"))
    probes.wait_for(message_id, "done")
    assert (probes.calls("k"), probes.effects("k")) == ([False, True], 1)


@pytest.mark.parametrize(("order", "error"), [("fail", "ValueError"), ("hang", "TimeoutError")])
def test_a_call_of_a_plain_function_has_a_timeout_and_is_retried(probes: Probes, order: str, error: str) -> None:
    probes.instruct("k", order)
    (message_id,) = probes.enqueue(ProbeOneCall(key="k"))
    probes.wait_for(message_id, "done")
    assert probes.attempts(message_id) == [(1, error)]
    assert probes.calls("k") == [False, True]


def test_the_lease_of_a_worker_that_dies_during_a_call_expires_and_the_call_is_retried(own_probes: Probes) -> None:
    own_probes.instruct("k", "after die")
    (message_id,) = own_probes.enqueue(ProbeCall(key="k"))

    def done() -> bool:
        own_probes.restart_worker()
        return own_probes.state(message_id) == "done"

    eventually(done, seconds=40)
    assert own_probes.attempts(message_id) == [(1, "LeaseExpired")]
    assert (own_probes.calls("k"), own_probes.effects("k")) == ([False, True], 1)


def test_a_result_after_the_lease_has_expired_is_not_written(probes: Probes) -> None:
    probes.instruct("k", "late 7")
    (message_id,) = probes.enqueue(ProbeCall(key="k"))
    probes.wait_for(message_id, "done", seconds=40)
    assert probes.attempts(message_id) == [(1, "LeaseExpired")]
    assert probes.effects("k") == 1


def test_an_external_call_that_does_not_complete_is_dead(probes: Probes) -> None:
    probes.instruct("k", "incomplete")
    (message_id,) = probes.enqueue(ProbeCall(key="k"))
    probes.wait_for(message_id, "dead")


def test_a_message_for_later_is_handled_no_earlier(probes: Probes) -> None:
    message_id = probes.value(
        "INSERT INTO messages (id, actor, queue, body, max_attempts, available_at)"
        """ VALUES (gen_random_uuid(), 'probe', 'bills', '{"key": "k"}', 5, now() + interval '3 seconds') RETURNING id"""
    )
    (sooner,) = probes.enqueue(Probe(key="sooner"))
    for each in (sooner, message_id):
        probes.wait_for(each, "done")
    waited: timedelta = probes.value(
        "SELECT p.at - m.available_at FROM probe p, messages m WHERE p.key = 'k' AND m.id = %s", message_id
    )
    assert timedelta(0) <= waited


def test_done_messages_are_pruned_after_thirty_days_and_dead_ones_never(probes: Probes) -> None:
    rows = """
        INSERT INTO messages (id, actor, queue, body, max_attempts, state, done_at, died_at, created_at)
        SELECT gen_random_uuid(), 'probe', 'bills', '{}', 5, s, CASE s WHEN 'done' THEN t END, t, t
        FROM unnest(ARRAY['done', 'dead', 'discarded']) s,
             unnest(ARRAY[now() - interval '31 days', now() - interval '29 days']) t
    """
    probes.conn.execute(
        """
        INSERT INTO unrecognized_messages (queue, reason, body, headers, at, discarded_at)
        SELECT 'bills', 'unknown', 'x', '{}', now() - interval '400 days', discarded_at
        FROM unnest(ARRAY[NULL, now() - interval '399 days']) discarded_at
        """
    )
    probes.conn.execute(rows)
    left = "SELECT state, count(*) FROM messages GROUP BY state ORDER BY state"
    expected = [("dead", 2), ("discarded", 2), ("done", 1)]
    eventually(lambda: probes.conn.execute(left).fetchall() == expected, seconds=60, why="a relay prunes every 10 seconds")
    assert probes.value("SELECT count(*) FROM unrecognized_messages WHERE reason = 'unknown'") == 2
