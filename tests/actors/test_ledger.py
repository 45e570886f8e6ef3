"""The ledger with real workers: an effect happens once, a failure is written down, nothing is lost."""

import signal
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.actors.probe import Probe, ProbeAtLeisure, ProbeCall, ProbeCallAtLeisure, ProbeChain
from tests.actors.probing import Ledger
from tests.installation import eventually


def test_an_effect_and_its_done_commit_together(ledger: Ledger) -> None:
    ids = ledger.put(*[Probe(key=f"k{number}") for number in range(50)])
    for message_id in ids:
        ledger.becomes(message_id, "done")
    assert [ledger.effects(f"k{number}") for number in range(50)] == [1] * 50


def test_a_message_put_in_a_transaction_that_rolls_back_never_was(ledger: Ledger) -> None:
    count = ledger.one("SELECT count(*) FROM messages")
    with pytest.raises(ZeroDivisionError), ledger.stint.sql() as conn, conn.transaction():
        conn.execute(
            "INSERT INTO messages (id, actor, queue, body, allowance) VALUES (gen_random_uuid(), 'probe', 'bills', '{}', 5)"
        )
        raise ZeroDivisionError
    assert ledger.one("SELECT count(*) FROM messages") == count


def test_what_a_handler_puts_names_its_cause(ledger: Ledger) -> None:
    (chain,) = ledger.put(ProbeChain(key="chained"))
    ledger.becomes(chain, "done")
    eventually(lambda: ledger.effects("chained") == 1)
    assert ledger.one("SELECT actor FROM messages WHERE cause_id = %s", chain) == "probe"


def test_a_failure_leaves_no_effect_and_is_tried_again_with_its_traceback_kept(ledger: Ledger) -> None:
    ledger.order("k", "fail", times=2)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "done")
    assert ledger.effects("k") == 1
    assert ledger.attempts(message_id) == [(1, "ValueError"), (2, "ValueError")]
    traceback = ledger.one("SELECT traceback FROM message_attempts WHERE message_id = %s AND n = 1", message_id)
    assert "as ordered" in traceback and "in probe" in traceback


def test_the_fifth_failure_makes_it_dead_and_a_replay_gives_it_five_more(ledger: Ledger) -> None:
    ledger.order("k", "fail", times=7)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "dead", seconds=30)
    assert [n for n, _ in ledger.attempts(message_id)] == [1, 2, 3, 4, 5]
    assert ledger.effects("k") == 0

    assert replay(ledger, message_id) is True
    assert replay(ledger, message_id) is False  # a second one is a no-op
    ledger.becomes(message_id, "done", seconds=30)
    assert [n for n, _ in ledger.attempts(message_id)] == [1, 2, 3, 4, 5, 6, 7]
    assert ledger.effects("k") == 1
    events = ledger.conn.execute(
        "SELECT who, action, reason FROM message_events WHERE message_id = %s", (message_id,)
    ).fetchall()
    assert events == [("ann@example.com", "replay", "mended")]


def replay(ledger: Ledger, message_id: UUID) -> bool:
    import asyncio

    from schemas import letter_moves

    async def go() -> bool:
        async with (
            await psycopg.AsyncConnection.connect(ledger.stint.database_url, autocommit=True) as conn,
            conn.transaction(),
        ):
            return message_id in await letter_moves.replay(conn, [message_id], who="ann@example.com", reason="mended")

    return asyncio.run(go())


def test_a_permanent_error_is_dead_at_once(ledger: Ledger) -> None:
    ledger.order("k", "permanent")
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "dead")
    assert len(ledger.attempts(message_id)) == 1


def test_a_body_that_no_longer_fits_is_dead_and_names_the_field(ledger: Ledger) -> None:
    message_id = ledger.one(
        "INSERT INTO messages (id, actor, queue, body, allowance)"
        """ VALUES (gen_random_uuid(), 'probe', 'bills', '{"key": 5, "colour": "red"}', 5) RETURNING id"""
    )
    ledger.becomes(message_id, "dead")
    error = ledger.one("SELECT error FROM messages WHERE id = %s", message_id)
    assert "key:" in error and "colour:" in error


@pytest.mark.parametrize("order", ["later:0.1", "deadlock"])
def test_being_asked_to_wait_and_a_deadlock_cost_no_attempt(ledger: Ledger, order: str) -> None:
    ledger.order("k", order, times=7)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "done", seconds=60)
    assert len(ledger.attempts(message_id)) == 7
    assert ledger.effects("k") == 1


@pytest.mark.parametrize("order", ["hang", "query"])
def test_a_handler_past_its_deadline_is_cut_off_and_tried_again(ledger: Ledger, order: str) -> None:
    ledger.order("k", order)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "done")
    assert ledger.attempts(message_id) == [(1, "TimeoutError")]
    assert ledger.effects("k") == 1


def test_a_lost_connection_is_no_failure_of_the_message(ledger: Ledger) -> None:
    ledger.order("k", "disconnect", times=2)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "done")
    assert (ledger.attempts(message_id), ledger.effects("k")) == ([], 1)


def test_a_message_that_always_loses_its_connection_is_a_failure_in_the_end(ledger: Ledger) -> None:
    ledger.order("k", "disconnect", times=1000)
    (message_id,) = ledger.put(Probe(key="k"))
    eventually(lambda: ledger.attempts(message_id), seconds=30)


def test_a_poison_that_kills_its_worker_is_dead_after_five_and_its_neighbours_flow_on(ledger: Ledger) -> None:
    ledger.order("poison", "die", times=100)
    keys = [f"k{number}" for number in range(30)]
    ids = ledger.put(*[Probe(key=key) for key in keys[:15]], Probe(key="poison"), *[Probe(key=key) for key in keys[15:]])
    poison = ids[15]

    def over() -> bool:
        ledger.keep_worker_alive()
        return ledger.state(poison) == "dead"

    eventually(over, seconds=90, why="the poison is dead")
    assert ledger.attempts(poison) == [(n, "WorkerDied") for n in range(1, 6)]
    for message_id in set(ids) - {poison}:
        ledger.becomes(message_id, "done", seconds=30)
    assert [ledger.effects(key) for key in keys] == [1] * 30
    blamed = "SELECT coalesce(max(attempts), 0) FROM messages WHERE actor = 'probe' AND id <> %s"
    assert ledger.one(blamed, poison) == 0


def test_a_restart_costs_what_was_prefetched_nothing(ledger: Ledger) -> None:
    keys = [f"k{number}" for number in range(12)]
    for key in keys:
        ledger.order(key, "sleep:2")
    ids = ledger.put(*[ProbeAtLeisure(key=key) for key in keys])
    standing = "SELECT count(*) FROM messages WHERE state = %s"
    eventually(lambda: ledger.one(standing, "ready") == 0 and ledger.one(standing, "done") > 0)
    ledger.stint.kill("work", signal.SIGTERM)
    assert ledger.one(standing, "sent") > 0
    ledger.stint.start("work")
    for message_id in ids:
        ledger.becomes(message_id, "done", seconds=60)
    assert ledger.one("SELECT max(attempts) FROM messages") == 0


@pytest.mark.parametrize("order", ["nul", "surrogate", "cancel", "exit"])
def test_an_exception_of_any_kind_and_text_is_written_down(ledger: Ledger, order: str) -> None:
    ledger.order("k", order)
    (message_id,) = ledger.put(Probe(key="k"))
    ledger.becomes(message_id, "done")
    assert len(ledger.attempts(message_id)) == 1
    assert ledger.effects("k") == 1


def test_a_call_out_holds_no_transaction_and_settles_with_its_result(ledger: Ledger) -> None:
    ledger.order("k", "before sleep:4")
    (message_id,) = ledger.put(ProbeCallAtLeisure(key="k"))
    ledger.becomes(message_id, "calling")
    open_transactions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
    # others are in one for moments; the call's would be there until it is over
    eventually(lambda: ledger.one(open_transactions) == 0)
    assert ledger.state(message_id) == "calling"
    ledger.becomes(message_id, "done")
    assert (ledger.calls("k"), ledger.effects("k")) == ([False], 1)


def test_a_call_that_failed_may_have_gone_through_and_the_next_attempt_is_told(ledger: Ledger) -> None:
    ledger.order("k", "after fail")
    (message_id,) = ledger.put(ProbeCall(key="k"))
    ledger.becomes(message_id, "done")
    assert (ledger.calls("k"), ledger.effects("k")) == ([False, True], 1)


def test_a_worker_that_dies_in_a_call_loses_its_lease_and_the_next_attempt_is_told(ledger: Ledger) -> None:
    ledger.order("k", "after die")
    (message_id,) = ledger.put(ProbeCall(key="k"))

    def done() -> bool:
        ledger.keep_worker_alive()
        return ledger.state(message_id) == "done"

    eventually(done, seconds=40)
    assert ledger.attempts(message_id) == [(1, "LeaseLapsed")]
    assert (ledger.calls("k"), ledger.effects("k")) == ([False, True], 1)


def test_a_result_that_comes_after_the_lease_is_not_written(ledger: Ledger) -> None:
    ledger.order("k", "late 7")
    (message_id,) = ledger.put(ProbeCall(key="k"))
    ledger.becomes(message_id, "done", seconds=40)
    assert ledger.attempts(message_id) == [(1, "LeaseLapsed")]
    assert ledger.effects("k") == 1


def test_a_call_out_that_forgets_to_settle_is_dead(ledger: Ledger) -> None:
    ledger.order("k", "unsettled")
    (message_id,) = ledger.put(ProbeCall(key="k"))
    ledger.becomes(message_id, "dead")


def test_a_message_for_later_waits_in_postgres(ledger: Ledger) -> None:
    message_id = ledger.one(
        "INSERT INTO messages (id, actor, queue, body, allowance, available_at)"
        """ VALUES (gen_random_uuid(), 'probe', 'bills', '{"key": "k"}', 5, now() + interval '3 seconds') RETURNING id"""
    )
    (sooner,) = ledger.put(Probe(key="sooner"))
    for each in (sooner, message_id):
        ledger.becomes(each, "done")
    waited: timedelta = ledger.one(
        "SELECT p.at - m.available_at FROM probe p, messages m WHERE p.key = 'k' AND m.id = %s", message_id
    )
    assert timedelta(0) <= waited


def test_done_messages_are_pruned_after_thirty_days_and_dead_ones_never(ledger: Ledger) -> None:
    rows = """
        INSERT INTO messages (id, actor, queue, body, allowance, state, done_at, died_at, created_at)
        SELECT gen_random_uuid(), 'probe', 'bills', '{}', 5, s, CASE s WHEN 'done' THEN t END, t, t
        FROM unnest(ARRAY['done', 'dead', 'discarded']) s,
             unnest(ARRAY[now() - interval '31 days', now() - interval '29 days']) t
    """
    ledger.conn.execute(
        """
        INSERT INTO foreign_letters (queue, reason, body, headers, at, discarded_at)
        SELECT 'bills', 'a stranger', 'x', '{}', now() - interval '400 days', discarded_at
        FROM unnest(ARRAY[NULL, now() - interval '399 days']) discarded_at
        """
    )
    ledger.conn.execute(rows)
    left = "SELECT state, count(*) FROM messages GROUP BY state ORDER BY state"
    expected = [("dead", 2), ("discarded", 2), ("done", 1)]
    eventually(lambda: ledger.conn.execute(left).fetchall() == expected)
    assert ledger.one("SELECT count(*) FROM foreign_letters") == 2
