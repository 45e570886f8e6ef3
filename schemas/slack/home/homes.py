"""The record of each person's App Home in Slack: who has opened it, which message publishes it, and what Slack shows.

Each transaction that changes the record locks its row first. So there are two cases. A message that starts after the change
reads it. Or the change finds that the waiting message has started, and enqueues another one. In both cases the last publish
shows the latest state.

For each Home, at most one message waits, and at most one makes a call.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.messages import PublishHome
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.rate_limits import Limit

KEPT_DAYS = 30  # after it was opened
LIMIT = Limit("slack-homes", burst=60, seconds=0.6)  # of all calls of views.publish; Slack allows "100+ per minute"


@dataclass(frozen=True)
class Home:
    """The record of one Home. `note` is the result of the last press, of `noted_at`."""

    slack_id: str
    running_id: UUID | None
    content_hash: bytes | None
    view_hash: str | None
    note: str
    noted_at: datetime | None


async def open_home(conn: Connection, slack_id: str) -> None:
    """Records that the person has opened their Home, and publishes it, even if Slack shows it already."""
    await conn.execute(
        """
        INSERT INTO slack_homes (slack_id) VALUES (%s)
        ON CONFLICT (slack_id) DO UPDATE SET opened_at = clock_timestamp(), content_hash = NULL
        """,
        (slack_id,),
    )
    await request(conn, [slack_id])


async def tell(conn: Connection, slack_id: str, text: str) -> None:
    """Publishes the person's Home with the result of a press above it, in mrkdwn.

    The record may be gone, because the Home was open for a long time. Then it is created again.
    """
    await conn.execute(
        """
        INSERT INTO slack_homes (slack_id, note, noted_at) VALUES (%s, %s, clock_timestamp())
        ON CONFLICT (slack_id) DO UPDATE SET note = excluded.note, noted_at = excluded.noted_at, opened_at = clock_timestamp()
        """,
        (slack_id, text[:2_000]),
    )
    await request(conn, [slack_id])


async def request(conn: Connection, slack_ids: Collection[str]) -> int:
    """Enqueues a message for each of these Homes for which none waits. Returns their number. Ids without a Home are left out.

    After this, none of these Homes is stale, whatever happens to its message. So a Home that cannot be published is not tried
    again and again.
    """
    last: dict[str, UUID | None] = dict(
        await conn.all(
            "SELECT slack_id, message_id FROM slack_homes WHERE slack_id = ANY(%s) ORDER BY slack_id FOR UPDATE",
            (list(slack_ids),),
        )
    )
    waiting = await conn.values(
        "SELECT id FROM messages WHERE id = ANY(%s) AND state IN ('ready', 'sent')",
        ([message_id for message_id in last.values() if message_id is not None],),
    )
    idle = [slack_id for slack_id, message_id in last.items() if message_id not in waiting]
    for slack_id in idle:
        message_id = await outbox.enqueue(conn, PublishHome(slack_id=slack_id))
        await conn.execute("UPDATE slack_homes SET message_id = %s WHERE slack_id = %s", (message_id, slack_id))
    await conn.execute("UPDATE slack_homes SET is_stale = false WHERE slack_id = ANY(%s) AND is_stale", (list(last),))
    return len(idle)


async def lock(conn: Connection, slack_id: str) -> Home | None:
    """The record, locked until the transaction ends. Read what the Home shows after this."""
    return await conn.maybe(
        """
        SELECT slack_id, running_id, content_hash, view_hash, note, noted_at FROM slack_homes WHERE slack_id = %s FOR UPDATE
        """,
        (slack_id,),
        row=Home,
    )


async def is_published_by_another(conn: Connection, home: Home, message_id: UUID) -> bool:
    """Whether another message makes a call for this locked Home at the moment."""
    query = "SELECT EXISTS (SELECT FROM messages WHERE id = %s AND id <> %s AND state = 'calling')"
    return bool(await conn.value(query, (home.running_id, message_id)))


async def mark_read(conn: Connection, home: Home, *, user_id: UUID | None, is_admin: bool) -> None:
    """Records whose Home it is, and that everything that it shows was read in this transaction.

    If the record has another user, or another `is_admin`, the Home becomes stale, so it is read once more. The reason: a change
    that was committed in the meantime was not found to be of this Home.
    """
    await conn.execute(
        """
        UPDATE slack_homes SET user_id = %(user)s, is_admin = %(admin)s,
            is_stale = (user_id, is_admin) IS DISTINCT FROM (%(user)s::uuid, %(admin)s)
        WHERE slack_id = %(id)s
        """,
        {"user": user_id, "admin": is_admin, "id": home.slack_id},
    )


async def mark_running(conn: Connection, home: Home, message_id: UUID) -> None:
    """Records that the message makes its call. Until the message is complete, Stint does not know what Slack shows."""
    await conn.execute(
        "UPDATE slack_homes SET running_id = %s, content_hash = NULL WHERE slack_id = %s", (message_id, home.slack_id)
    )


async def mark_shown(conn: Connection, slack_id: str, *, content_hash: bytes, view_hash: str | None) -> None:
    """Records what Slack shows."""
    await conn.execute(
        "UPDATE slack_homes SET content_hash = %s, view_hash = %s WHERE slack_id = %s", (content_hash, view_hash, slack_id)
    )


async def forget_view_hash(conn: Connection, slack_id: str) -> None:
    """Records that Slack shows a view which Stint does not know."""
    await conn.execute("UPDATE slack_homes SET view_hash = NULL WHERE slack_id = %s", (slack_id,))


async def delete(conn: Connection, slack_id: str | None = None) -> None:
    """Deletes one record, or all."""
    await conn.execute("DELETE FROM slack_homes WHERE slack_id = coalesce(%s, slack_id)", (slack_id,))
