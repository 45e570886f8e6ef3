"""How long a message waits between its attempts."""

import asyncio

import pytest

from schemas import failures, ledger, letter_moves
from schemas.database import Connection
from schemas.failures import Failure
from schemas.ledger import State
from schemas.messages import MODELS, Message, PostTaskCreated, SendMail, StopTimer, SyncBill
from tests.installation import new_database

WAIT = "SELECT extract(epoch FROM available_at - clock_timestamp())::float FROM messages WHERE id = %s"
MAIL = SendMail(to="jo@example.com", subject="Hello", paragraphs=("It rains.",))
OF: dict[type[Message], Message] = {
    SendMail: MAIL,
    PostTaskCreated: PostTaskCreated.model_construct(task_id=None, channel_id="C1", slack_user_id="U1"),
    SyncBill: SyncBill.model_construct(bill_id=None),
    StopTimer: StopTimer.model_construct(),
}


async def waits_of(url: str, message: Message, *, free: int = 0, replays: int = 0) -> list[float]:
    """The waits in seconds until it is dead, at a base of one second; some of the failures are free, and come first."""
    failure, gratis = Failure("ValueError", "no", "", "w:1"), Failure("RetryLater", "not now", "", "w:1", free=True)
    waits = []
    async with await Connection.connect(url, autocommit=True) as conn:
        message_id = await ledger.put(conn, message)
        for number in range(1000):
            record = await ledger.lock(conn, message_id)
            assert record is not None
            state = await failures.fail(conn, record, gratis if number < free else failure, base_seconds=1)
            if state is State.dead and replays:
                replays, waits = replays - 1, []
                await letter_moves.replay(conn, [message_id], who="somebody", reason="mended")
            elif state is State.dead:
                return waits
            elif number >= free:
                [wait] = await (await conn.execute(WAIT, (message_id,))).fetchone() or [0.0]
                waits.append(wait)
    raise AssertionError("it never dies")


@pytest.mark.parametrize("kind", OF, ids=lambda kind: kind.__name__)
def test_the_wait_doubles_from_the_first_attempt_on_up_to_ten_minutes(kind: type[Message], database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), OF[kind]))
    expected = [min(600, 2**number) for number in range(MODELS[kind.actor].allowance - 1)]
    assert len(waits) == len(expected)
    for wait, middle in zip(waits, expected, strict=True):
        assert 0.7 * middle - 0.5 < wait < 1.3 * middle


def test_mail_is_tried_for_about_an_hour(database_url: str) -> None:
    assert 40 * 60 < sum(asyncio.run(waits_of(new_database(database_url), MAIL))) < 80 * 60


def test_what_was_free_does_not_lengthen_the_wait(database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), MAIL, free=20))
    assert len(waits) == 14 and waits[0] < 1.3


def test_a_replay_begins_anew_with_short_waits(database_url: str) -> None:
    waits = asyncio.run(waits_of(new_database(database_url), MAIL, replays=1))
    assert len(waits) == 4 and waits[0] < 1.3 and waits[-1] < 8 * 1.3
