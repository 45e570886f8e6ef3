"""Deliveries, crashes and leases, each step alone: which of several attempts at one message may write."""

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import psycopg
import pytest

from actors.runtime import deliveries, failures
from actors.runtime.attempts import AttemptRunner, failure_from
from actors.runtime.broker import encode_reference
from actors.runtime.dead_letter_queues import DeadLettered, record_dead_lettered
from actors.runtime.deliveries import Delivery, LockedMessage, commit_start, lock_for_delivery, poison_lock
from actors.runtime.external_calls import AlreadySettled, ExternalCall, LeaseExpired
from schemas.encryption import WrongSecretKey
from schemas.errors import NonRetryable, RetryAfter
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from tests.outbox.rows import ACTOR, QUEUE, connected, delivery, message, over, states
from tests.outbox.test_sweeps import settings
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def lock(conn: Connection, of: Delivery, *, started: bool = False) -> LockedMessage | None:
    async with conn.transaction():
        return await lock_for_delivery(conn, of, worker="here:1", base_seconds=1, started=started)


async def attempts(conn: Connection, message_id: UUID) -> int:
    return int(await conn.value("SELECT attempts FROM messages WHERE id = %s", (message_id,)))


def call_of(conn: Connection, of: Delivery, *, margin_seconds: float = 5) -> ExternalCall:
    async def connection() -> Connection:
        return conn

    return ExternalCall(
        of, connection=connection, timeout_seconds=5, margin_seconds=margin_seconds, worker="here:1", base_seconds=1
    )


def test_only_the_latest_delivery_of_a_message_that_is_sent_is_handled(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        sent = await message(conn, "sent", delivery_number="3")
        others = [await message(conn, state) for state in ("ready", "calling", "done", "dead", "discarded")]
        locked = [await lock(conn, delivery(sent, number)) for number in (2, 3, 4)]
        return [found is not None for found in [*locked, *[await lock(conn, delivery(other)) for other in others]]]

    assert over(url, check) == [False, True, False, *[False] * 5]


def test_a_delivery_that_names_another_actor_or_queue_is_unrecognized(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[bool], int]:
        sent = await message(conn, "sent")
        wrong = [delivery(sent, actor="move_entries"), delivery(sent, queue="xero"), delivery(UUID(int=5))]
        before = await conn.value("SELECT count(*) FROM unrecognized_messages")
        locked = [await lock(conn, each) for each in wrong]
        return [found is None for found in locked], await conn.value("SELECT count(*) FROM unrecognized_messages") - before

    assert over(url, check) == ([True] * 3, 3)


def test_two_workers_with_copies_of_a_delivery_wait_for_each_other(url: str) -> None:
    async def check(conn: Connection) -> None:
        sent = await message(conn, "sent")
        async with connected(url) as other, other.transaction():
            assert await lock_for_delivery(other, delivery(sent), worker="there:1", base_seconds=1) is not None
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await lock(conn, delivery(sent))

    over(url, check)


def test_a_message_that_was_with_a_dead_worker_starts_only_after_that_is_committed(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[bool], int]:
        sent = await message(conn, "sent")
        first = await lock(conn, delivery(sent, redelivered=True))
        assert first is not None
        async with asyncio.timeout(5):
            assert await commit_start(conn, delivery(sent, redelivered=True))
        poison_lock.release()
        second = await lock(conn, delivery(sent, redelivered=True), started=True)
        assert second is not None
        # a message that was suspected once is, also in its first delivery after a retry
        later = await lock(conn, delivery(sent))
        assert later is not None
        return [first.can_start, second.can_start, later.can_start], await attempts(conn, sent)

    assert over(url, check) == ([False, True, False], 0)


def test_a_crash_counts_once_it_is_proven_and_the_first_one_twice(url: str) -> None:
    async def crash_until_dead(conn: Connection) -> tuple[list[int], list[str]]:
        sent = await message(conn, "sent")
        counted = []
        for number in range(1, 5):
            assert await commit_start(conn, delivery(sent, number, redelivered=True))
            poison_lock.release()
            assert await lock(conn, delivery(sent, number, redelivered=True)) is None
            counted.append(await attempts(conn, sent))
            again = (
                "UPDATE messages SET state = 'sent', delivery_number = delivery_number + 1 WHERE id = %s AND state = 'ready'"
            )
            await conn.execute(again, (sent,))
        return counted, await states(conn, sent)

    assert over(url, crash_until_dead) == ([2, 3, 4, 5], ["dead"])


def test_one_suspected_message_runs_at_a_time_and_no_thread_waits(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, list[str], bool]:
        first, second = await message(conn, "sent"), await message(conn, "sent")
        assert await commit_start(conn, delivery(first, redelivered=True))
        try:
            started = await commit_start(conn, delivery(second, redelivered=True))
        finally:
            poison_lock.release()
        suspected = await conn.value("SELECT started_delivery IS NOT NULL FROM messages WHERE id = %s", (second,))
        return started, await states(conn, first, second), suspected

    assert over(url, check) == (False, ["sent", "ready"], True)
    assert deliveries.poison_lock.acquire(blocking=False), "it was released"
    deliveries.poison_lock.release()


async def taken_over(conn: Connection) -> tuple[ExternalCall, ExternalCall, UUID]:
    """Two calls of one message: the lease of the first has expired, the second is in progress."""
    sent = await message(conn, "sent")
    calls = [call_of(conn, delivery(sent, number)) for number in (1, 2)]
    async with calls[0].start():
        pass
    again = """
        UPDATE messages SET state = 'sent', delivery_number = 2, sent_at = now(), attempts = 1, lease_token = NULL,
            lease_until = NULL
        WHERE id = %s
    """
    await conn.execute(again, (sent,))
    async with calls[1].start():
        pass
    return calls[0], calls[1], sent


def test_a_call_whose_lease_another_attempt_has_writes_nothing(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, bool, list[str]]:
        frozen, latest, sent = await taken_over(conn)
        key = str(sent)
        with pytest.raises(LeaseExpired):
            async with frozen.complete() as inside:
                await inside.execute("INSERT INTO slack_deduplication (key) VALUES (%s)", (key,))
        written = await conn.value("SELECT count(*) FROM slack_deduplication WHERE key = %s", (key,))
        assert await states(conn, sent) == ["calling"]
        async with latest.complete():
            pass
        return written, latest.outcome_unknown, await states(conn, sent)

    assert over(url, check) == (0, True, ["done"])


@pytest.mark.parametrize(
    ("error", "is_unknown"),
    [(ValueError("no"), True), (RetryAfter(7), True), (psycopg.errors.DeadlockDetected("after the call"), True), (None, False)],
    ids=["failed", "not counted", "deadlock", "rescheduled"],
)
def test_the_outcome_is_unknown_after_each_failure_also_one_that_does_not_count(
    error: Exception | None, is_unknown: bool, url: str
) -> None:
    async def check(conn: Connection) -> bool:
        first = call_of(conn, delivery(sent := await message(conn, "sent")))
        async with first.start():
            pass
        assert not first.outcome_unknown
        if error is None:
            async with first.complete():
                first.reschedule(0)
        else:
            async with conn.transaction():
                record = await outbox.lock(conn, sent)
                assert record is not None
                await failures.record_failure(conn, record, failure_from(error), base_seconds=1)
        again = "UPDATE messages SET state = 'sent', delivery_number = 2, sent_at = now() WHERE id = %s AND state = 'ready'"
        await conn.execute(again, (sent,))
        latest = call_of(conn, delivery(sent, 2))
        async with latest.start():
            pass
        return latest.outcome_unknown

    assert over(url, check) is is_unknown


def test_a_call_whose_lease_has_expired_writes_nothing(url: str) -> None:
    async def check(conn: Connection) -> list[str]:
        call = call_of(conn, delivery(sent := await message(conn, "sent")))
        async with call.start():
            pass
        await conn.execute("UPDATE messages SET state = 'ready', lease_token = NULL, lease_until = NULL WHERE id = %s", (sent,))
        with pytest.raises(LeaseExpired):
            async with call.complete():
                raise AssertionError("it may write")
        return await states(conn, sent)

    assert over(url, check) == ["ready"]


def test_the_failure_of_a_call_whose_lease_another_attempt_has_is_not_recorded(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[str], int]:
        frozen, _, sent = await taken_over(conn)
        runner = AttemptRunner(settings(url), threading.Event())
        runner._conn = conn
        await runner._record_failure(delivery(sent), frozen, failure_from(ValueError("late")))
        return await states(conn, sent), await conn.value(
            "SELECT count(*) FROM message_attempts WHERE message_id = %s", (sent,)
        )

    assert over(url, check) == (["calling"], 0)


def test_a_call_is_not_begun_when_too_little_of_the_lease_is_left(url: str) -> None:
    async def check(conn: Connection) -> None:
        call = call_of(conn, delivery(await message(conn, "sent")), margin_seconds=-1)
        async with call.start():
            pass
        with pytest.raises(LeaseExpired):
            async with call.timeout():
                raise AssertionError("it was begun")

    over(url, check)


def test_a_lease_lasts_longer_than_the_call_may(url: str) -> None:
    async def check(conn: Connection) -> float:
        call = call_of(conn, delivery(sent := await message(conn, "sent")))
        async with call.start():
            pass
        left = "SELECT extract(epoch FROM lease_until - clock_timestamp())::float FROM messages WHERE id = %s"
        return float(await conn.value(left, (sent,)))

    assert 9 < over(url, check) <= 10


def test_what_a_skipped_or_rescheduled_start_wrote_is_kept_and_no_call_follows(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[str], float]:
        skipped, rescheduled = await message(conn, "sent"), await message(conn, "sent")
        for sent, end in ((skipped, ExternalCall.skip), (rescheduled, lambda call: call.reschedule(60))):
            call = call_of(conn, delivery(sent))
            async with AsyncExitStack() as stack:
                stack.enter_context(pytest.raises(AlreadySettled))
                await stack.enter_async_context(call.start())
                end(call)
        wait = "SELECT extract(epoch FROM available_at - clock_timestamp())::float FROM messages WHERE id = %s"
        return await states(conn, skipped, rescheduled), await conn.value(wait, (rescheduled,))

    found, seconds = over(url, check)
    assert found == ["done", "ready"] and 55 < seconds <= 60


def test_a_message_is_locked_by_its_id_before_its_state_is_looked_at(url: str) -> None:
    """A transaction that is just making it ready is waited for, and its result is seen."""

    async def check(conn: Connection) -> str:
        sent = await message(conn, "ready")
        async with connected(url) as other:
            async with other.transaction():
                await other.execute(
                    "UPDATE messages SET state = 'sent', delivery_number = 1, sent_at = now() WHERE id = %s", (sent,)
                )
                waiting = asyncio.ensure_future(outbox.lock(conn, sent))
                await asyncio.sleep(0.1)
                assert not waiting.done()
            record = await waiting
        assert record is not None
        return record.state

    assert over(url, check) == "sent"


@pytest.mark.parametrize(
    ("error", "final", "uncounted", "delay_seconds"),
    [
        (ValueError("no"), False, False, None),
        (TimeoutError(), False, False, None),
        (NonRetryable("no"), True, False, None),
        (RetryAfter(7), False, True, 7),
        (WrongSecretKey("no"), False, True, 30),
        (psycopg.errors.DeadlockDetected("no"), False, True, None),
        (psycopg.errors.SerializationFailure("no"), False, True, None),
        (psycopg.errors.LockNotAvailable("no"), False, True, None),
        (psycopg.errors.UniqueViolation("no"), False, False, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_exception_means_for_the_attempts(
    error: Exception, final: bool, uncounted: bool, delay_seconds: float | None
) -> None:
    failure = failure_from(error)
    assert (failure.final, failure.uncounted, failure.delay_seconds) == (final, uncounted, delay_seconds)


def test_an_older_delivery_that_rabbitmq_dead_lettered_is_recorded_and_no_attempt(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[int], int]:
        sent = await message(conn, "sent", delivery_number="2")
        before = await conn.value("SELECT count(*) FROM unrecognized_messages")
        counted = []
        for number in (1, 2):
            body = encode_reference(message_id=sent, delivery_number=number, actor=ACTOR, queue=QUEUE)
            await record_dead_lettered(conn, DeadLettered(QUEUE, body, {}, 1), base_seconds=1)
            counted.append(await attempts(conn, sent))
        return counted, await conn.value("SELECT count(*) FROM unrecognized_messages") - before

    assert over(url, check) == ([0, 1], 1)


def test_what_a_message_is_about_learns_that_it_is_dead_and_not_that_it_is_retried(url: str) -> None:
    async def check(conn: Connection) -> list[str]:
        told: list[str] = []

        async def tell(_: Connection, body: dict[str, Any]) -> None:
            told.append(body["bill_id"])

        for attempt in ("1", "4"):
            sent = await message(conn, "sent", actor="'sync_bill'", attempts=attempt, body=f"""'{{"bill_id": "{attempt}"}}'""")
            record = await outbox.lock(conn, sent)
            assert record is not None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(failures, "ON_DEAD_LETTER", {"sync_bill": tell})
                await failures.record_failure(conn, record, failure_from(ValueError("no")), base_seconds=1)
        return told

    assert failures.ON_DEAD_LETTER.keys() == {"sync_bill"}
    assert over(url, check) == ["4"]
