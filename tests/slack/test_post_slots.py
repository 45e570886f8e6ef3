"""Slots in a Slack channel: one a second for all workers together, and each slot is used once."""

import asyncio
from uuid import UUID, uuid4

from schemas.messages import PostTaskCreated
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import posts
from schemas.slack.posts import Slot
from tests.support.installation import new_database

MAX_WAIT_SECONDS = 0.5


async def enqueued(conn: Connection, channel: str) -> UUID:
    return await outbox.enqueue(conn, PostTaskCreated(task_id=uuid4(), channel_id=channel, slack_user_id="U1"))


async def slot(conn: Connection, message_id: UUID, channel: str) -> Slot:
    return await posts.reserve_slot(conn, message_id, channel, max_wait_seconds=MAX_WAIT_SECONDS)


def test_a_message_that_waited_for_its_slot_gets_it_while_others_wait_too(database_url: str) -> None:
    """The outcomes of three first attempts are unknown at the same time: each message waits for one more slot and uses it."""

    async def second_slots() -> list[Slot]:
        now = asyncio.get_running_loop().time
        async with await Connection.connect(new_database(database_url), autocommit=True) as conn:
            messages = [await enqueued(conn, "C1") for _ in range(3)]
            for message_id in messages:
                first = await slot(conn, message_id, "C1")
                if first.wait_seconds > MAX_WAIT_SECONDS:
                    await asyncio.sleep(first.wait_seconds)
                    first = await slot(conn, message_id, "C1")
                assert first.wait_seconds <= MAX_WAIT_SECONDS and first.unknown_since is None
            reserved = [(message_id, await slot(conn, message_id, "C1"), now()) for message_id in messages]
            slots = []
            for message_id, second, at in reserved:
                if second.wait_seconds > MAX_WAIT_SECONDS:
                    await asyncio.sleep(at + second.wait_seconds - now())
                    second = await slot(conn, message_id, "C1")
                slots.append(second)
            return slots

    for second in asyncio.run(second_slots()):
        assert second.wait_seconds <= MAX_WAIT_SECONDS and second.unknown_since is not None


def test_a_used_slot_is_not_used_again(database_url: str) -> None:
    async def twice() -> tuple[Slot, Slot]:
        async with await Connection.connect(new_database(database_url), autocommit=True) as conn:
            message_id = await enqueued(conn, "C1")
            first = await slot(conn, message_id, "C1")
            await posts.mark_not_posted(conn, message_id, "C1")
            return first, await slot(conn, message_id, "C1")

    first, second = asyncio.run(twice())
    assert first.wait_seconds == 0 and second.wait_seconds > MAX_WAIT_SECONDS
