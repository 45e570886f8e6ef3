"""Turns in a Slack channel: one place a second for all workers together, and each is used once."""

import asyncio
from uuid import UUID, uuid4

from schemas import ledger, slack_posts
from schemas.database import Connection
from schemas.messages import PostTaskCreated
from schemas.slack_posts import Turn
from tests.installation import new_database

PATIENCE_SECONDS = 0.5


async def promised(conn: Connection, channel: str) -> UUID:
    return await ledger.put(conn, PostTaskCreated(task_id=uuid4(), channel_id=channel, slack_user_id="U1"))


async def turn(conn: Connection, message_id: UUID, channel: str) -> Turn:
    return await slack_posts.take_turn(conn, message_id, channel, patience_seconds=PATIENCE_SECONDS)


def test_who_has_waited_for_a_place_gets_it_however_many_wait_beside(database_url: str) -> None:
    """Three whose first attempts all ended at once, and nobody knows how: each waits for one more place, and uses that."""

    async def three() -> list[Turn]:
        now = asyncio.get_running_loop().time
        async with await Connection.connect(new_database(database_url), autocommit=True) as conn:
            messages = [await promised(conn, "C1") for _ in range(3)]
            for message_id in messages:
                first = await turn(conn, message_id, "C1")
                if first.wait_seconds > PATIENCE_SECONDS:
                    await asyncio.sleep(first.wait_seconds)
                    first = await turn(conn, message_id, "C1")
                assert first.wait_seconds <= PATIENCE_SECONDS and first.unsure_since is None
            asked = [(message_id, await turn(conn, message_id, "C1"), now()) for message_id in messages]
            again = []
            for message_id, wanted, at in asked:
                if wanted.wait_seconds > PATIENCE_SECONDS:
                    await asyncio.sleep(at + wanted.wait_seconds - now())
                    wanted = await turn(conn, message_id, "C1")
                again.append(wanted)
            return again

    for again in asyncio.run(three()):
        assert again.wait_seconds <= PATIENCE_SECONDS and again.unsure_since is not None


def test_a_place_that_was_used_is_not_used_again(database_url: str) -> None:
    async def twice() -> tuple[Turn, Turn]:
        async with await Connection.connect(new_database(database_url), autocommit=True) as conn:
            message_id = await promised(conn, "C1")
            first = await turn(conn, message_id, "C1")
            await slack_posts.did_not_go(conn, message_id, "C1")
            return first, await turn(conn, message_id, "C1")

    first, second = asyncio.run(twice())
    assert first.wait_seconds == 0 and second.wait_seconds > PATIENCE_SECONDS
