"""How long a message waits between its attempts."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from schemas.messages import MODELS, Message, PostTaskCreated, SendMail, StopTimer, SyncBill
from schemas.outbox import failed_attempts, outbox
from schemas.outbox.dead_letters import actions
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.outbox import State
from schemas.postgres.connection import Connection
from tests.support.installation import new_database

NOW = datetime.now(UTC)
WAIT = "SELECT extract(epoch FROM available_at - clock_timestamp())::float FROM messages WHERE id = %s"
MAIL = SendMail(to="jo@example.com", subject="Hello", paragraphs=("It rains.",))
EXAMPLES: dict[type[Message], Message] = {
    SendMail: MAIL,
    PostTaskCreated: PostTaskCreated.model_construct(task_id=uuid4(), channel_id="C1", slack_user_id="U1"),
    SyncBill: SyncBill.model_construct(bill_id=uuid4()),
    StopTimer: StopTimer(entry_id=uuid4(), user_id=uuid4(), task_id=uuid4(), start_time=NOW, end_time=NOW, notes=""),
}


async def waits_of(url: str, message: Message, *, uncounted: int = 0, replays: int = 0) -> list[float]:
    """The waits in seconds until the message is dead, with a base of one second. The first `uncounted` attempts are not
    counted."""
    failure, uncounted_failure = (
        Failure("ValueError", "no", "", "w:1"),
        Failure("RetryAfter", "not now", "", "w:1", uncounted=True),
    )
    waits: list[float] = []
    async with await Connection.connect(url, autocommit=True) as conn:
        message_id = await outbox.enqueue(conn, message)
        for number in range(1000):
            record = await outbox.lock(conn, message_id)
            assert record is not None
            state = await failed_attempts.record_failed_attempt(
                conn, record, uncounted_failure if number < uncounted else failure, base_seconds=1
            )
            if state is State.dead and replays:
                replays, waits = replays - 1, []
                await actions.replay(conn, [message_id], who="somebody", reason="fixed")
            elif state is State.dead:
                return waits
            elif number >= uncounted:
                [wait] = await (await conn.execute(WAIT, (message_id,))).fetchone() or [0.0]
                waits.append(wait)
    raise AssertionError("it never dies")


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_the_wait_doubles_from_the_first_attempt_on_up_to_ten_minutes(kind: type[Message], database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), EXAMPLES[kind]))
    expected = [min(600, 2**number) for number in range(MODELS[kind.actor].max_attempts - 1)]
    assert len(waits) == len(expected)
    for wait, middle in zip(waits, expected, strict=True):
        assert 0.7 * middle - 0.5 < wait < 1.3 * middle


def test_mail_is_retried_for_about_an_hour(database_url: str) -> None:
    assert 40 * 60 < sum(asyncio.run(waits_of(new_database(database_url), MAIL))) < 80 * 60


def test_uncounted_attempts_do_not_lengthen_the_wait(database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), MAIL, uncounted=20))
    assert len(waits) == 14 and waits[0] < 1.3


def test_after_a_replay_the_waits_are_short_again(database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), MAIL, replays=1))
    assert len(waits) == 4 and waits[0] < 1.3 and waits[-1] < 8 * 1.3
