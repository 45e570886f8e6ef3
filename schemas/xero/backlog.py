"""Bills that nothing sends to Xero until something changes.

- Bills that wait for the connection to Xero, or for a mapping. `queue_next_chunk` queues them when they have it: CHUNK_SIZE
  bills in each transaction.
- Bills that have failed. `send_again` sends them when a person asks for it, and when Xero gives access again.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from schemas.messages import QueueBills, SyncBill
from schemas.outbox import outbox
from schemas.outbox.dead_letters.actions import BY_ITSELF, record, replay
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.client_errors import NotSent, Offline, OutcomeUnknown, Unauthorized, XeroError
from schemas.xero.users import USERS_SECONDS, fallback_key

CHUNK_SIZE = 500
# The full names of the errors of a last attempt to which Xero gave no access, or no answer.
NO_ACCESS = tuple(
    f"{error.__module__}.{error.__qualname__}" for error in (Unauthorized, Offline, OutcomeUnknown, NotSent, XeroError)
)

# SQL condition: the customer `c` is mapped to a project, and the pillar `p` to a task, of the connected organisation `t`.
MAPPED = """
    c.xero_project_id IS NOT NULL AND coalesce(c.xero_tenant_id, t.tenant_id) = t.tenant_id
    AND p.xero_task_id IS NOT NULL AND coalesce(p.xero_tenant_id, t.tenant_id) = t.tenant_id
"""
# SQL condition: Xero refused to create the entry of the failed bill `b`, and the bill is mapped differently now than then.
MAPPED_DIFFERENTLY = f"""
    {MAPPED} AND b.xero_status = 'failed' AND EXISTS (
        SELECT FROM xero_entries e WHERE e.bill_id = b.id AND e.create_refused
            AND (e.tenant_id, e.project_id, e.content->>'task_id') <> (t.tenant_id, c.xero_project_id, p.xero_task_id))
"""
# By `because` of the message: SQL condition for the bills `b` to queue.
CONDITIONS = {
    "connected": "b.xero_status IN ('not_connected', 'withdrawing')",
    "mapped": f"""
        {MAPPED} AND b.xero_status = 'not_mapped' AND (
            EXISTS (SELECT FROM xero_users x
                    WHERE x.tenant_id = t.tenant_id AND x.email IN (nullif(email_key(u.email), ''), %(fallback)s))
            OR t.users_fetched_at < clock_timestamp() - make_interval(secs => %(users_seconds)s))
        OR {MAPPED_DIFFERENTLY}
    """,
}
_JOINS = """
    time_bills b JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
    CROSS JOIN xero_connection n JOIN xero_tenants t ON t.tenant_id = n.tenant_id
"""


async def queue_next_chunk(conn: Connection, message: QueueBills, settings: Settings) -> None:
    """Queues the bills of one chunk. If the chunk is full, it enqueues the message for the next one."""
    if message.because == "access":
        bill_ids = await _failed_without_access(conn, message.after)
        await send_again(conn, bill_ids, who=BY_ITSELF, reason="Xero gives access again")
    else:
        bill_ids = await _queue_waiting(conn, message, settings)
    if len(bill_ids) == CHUNK_SIZE:
        await outbox.enqueue(conn, message.model_copy(update={"after": bill_ids[-1]}))


async def _failed_without_access(conn: Connection, after: UUID | None) -> list[UUID]:
    """The ids of the next chunk of bills that have failed because Xero gave no access.

    The error of a bill's dead letter shows that. `after` is the last id of the previous chunk.
    """
    return await conn.values(
        f"""
        SELECT DISTINCT b.id FROM messages m JOIN failure_groups g ON g.fingerprint = m.fingerprint
        JOIN time_bills b ON b.id = (m.body->>'bill_id')::uuid
        WHERE m.state = 'dead' AND m.queue = 'xero' AND m.actor = 'sync_bill' AND g.error_class = ANY(%(errors)s)
          AND b.xero_status = 'failed' AND (%(after)s::uuid IS NULL OR b.id > %(after)s)
        ORDER BY b.id LIMIT {CHUNK_SIZE}
        """,
        {"errors": list(NO_ACCESS), "after": after},
    )


async def _queue_waiting(conn: Connection, message: QueueBills, settings: Settings) -> list[UUID]:
    """Queues the next chunk of bills that have waited, and returns their ids.

    Bills that Xero refused under an earlier mapping are among them. Each is sent again once for each refusal.
    """
    found = await conn.all(
        f"""
        WITH waiting AS (
            SELECT b.id, b.xero_status FROM {_JOINS}
            WHERE b.status = 'approved' AND ({CONDITIONS[message.because]})
              AND (%(customer)s::uuid IS NULL OR b.customer_id = %(customer)s)
              AND (%(after)s::uuid IS NULL OR b.id > %(after)s)
            ORDER BY b.id LIMIT {CHUNK_SIZE} FOR NO KEY UPDATE OF b
        ), queued AS (
            UPDATE time_bills b
            SET xero_status = CASE WHEN b.xero_status = 'withdrawing' THEN b.xero_status ELSE 'queued' END, xero_error = NULL
            FROM waiting WHERE b.id = waiting.id AND waiting.xero_status <> 'failed'
        )
        SELECT id, xero_status = 'failed' FROM waiting ORDER BY id
        """,
        {
            "customer": message.customer_id,
            "after": message.after,
            "fallback": fallback_key(settings),
            "users_seconds": USERS_SECONDS,
        },
    )
    waiting = [bill_id for bill_id, has_failed in found if not has_failed]
    await outbox.enqueue_many(conn, [SyncBill(bill_id=bill_id) for bill_id in waiting])
    failed = [bill_id for bill_id, has_failed in found if has_failed]
    await conn.execute("UPDATE xero_entries SET create_refused = false WHERE bill_id = ANY(%s)", (failed,))
    await send_again(conn, failed, who=BY_ITSELF, reason="its customer or pillar is mapped differently now")
    return [bill_id for bill_id, _ in found]


async def is_mapped_differently(conn: Connection, bill_id: object) -> bool:
    """Whether Xero refused the bill's entry, and the bill is mapped differently now."""
    query = f"SELECT 1 FROM {_JOINS} WHERE b.id = %s AND {MAPPED_DIFFERENTLY}"
    return await conn.maybe(query, (bill_id,)) is not None


@dataclass
class SentAgain:
    """What `send_again` did with each bill."""

    sent: list[UUID] = field(default_factory=list)
    skipped: dict[UUID, str] = field(default_factory=dict)  # by bill that was not sent: why, as a sentence


@dataclass(frozen=True)
class _Messages:
    """The messages of one bill that are not done."""

    dead: tuple[UUID, ...] = ()  # the ids of its dead letters
    under_way: bool = False  # whether it has a message that is neither done nor dead


async def send_again(
    conn: Connection,
    bill_ids: Collection[UUID],
    *,
    who: str,
    reason: str,
    created_by: UUID | None = None,
    overwrite: bool = False,
) -> SentAgain:
    """Sends failed bills to Xero again, in the caller's transaction.

    The dead letters of the bills are replayed. A failed bill without a dead letter gets a new message. Bills that have not
    failed are skipped, so the function may be called twice, also concurrently.

    - `who` and `reason` are recorded in the history of each message.
    - `overwrite`: an admin has decided that Xero gets the bills as they are in Stint. Then bills whose entries somebody has
      changed in Xero are sent, too, even if an admin has accepted the change.

    It locks the bills in the order of their ids. It does not wait for a dead letter that another transaction has locked: the
    bill of such a dead letter is skipped.
    """
    statuses = await _lock_statuses(conn, bill_ids)
    messages = await _messages_of(conn, statuses)
    dead = [message_id for of_bill in messages.values() for message_id in of_bill.dead]
    # SKIP LOCKED: messages come before bills in the order of locks, so to wait for one here could be a deadlock
    query = "SELECT id FROM messages WHERE id = ANY(%s) AND state = 'dead' ORDER BY id FOR UPDATE SKIP LOCKED"
    own = await conn.values(query, (dead,))
    replayed = await replay(conn, own, who=who, reason=reason, max_attempts=SyncBill.max_attempts)
    sendable = {"failed", "differs", "accepted"} if overwrite else {"failed"}
    answer = SentAgain()
    new: list[SyncBill] = []
    for bill_id in dict.fromkeys(bill_ids):  # without duplicates
        of_bill = messages.get(bill_id, _Messages())
        why = _why_skipped(statuses.get(bill_id), of_bill, replayed, sendable)
        if why is not None:
            answer.skipped[bill_id] = why
            continue
        answer.sent.append(bill_id)
        if not of_bill.dead:
            new.append(SyncBill(bill_id=bill_id))
    if new:
        message_ids = await outbox.enqueue_many(conn, new, created_by=created_by)
        await record(conn, message_ids, "replay", who=who, reason=reason)
    being_sent = [bill_id for bill_id, status in statuses.items() if status == "failed" and messages[bill_id].under_way]
    if overwrite:
        await _overwrite(conn, [*answer.sent, *being_sent])
    await _show_queued(conn, [*answer.sent, *being_sent])
    return answer


async def _lock_statuses(conn: Connection, bill_ids: Collection[UUID]) -> dict[UUID, str]:
    """Locks the bills, and returns the Xero status of each that exists: `accepted` if an admin has accepted what is in Xero."""
    return dict(
        await conn.all(
            """
            SELECT id, CASE WHEN xero_accepted IS NULL THEN xero_status ELSE 'accepted' END
            FROM time_bills WHERE id = ANY(%s) AND deleted_at IS NULL
            ORDER BY id FOR NO KEY UPDATE
            """,
            (list(bill_ids),),
        )
    )


async def _messages_of(conn: Connection, bill_ids: Collection[UUID]) -> dict[UUID, _Messages]:
    """By bill: its messages that are not done."""
    # one SELECT for each state, so that each uses a partial index
    by_state = " UNION ALL ".join(
        f"""
        SELECT (body->>'bill_id')::uuid AS bill_id, id, state FROM messages
        WHERE state = '{state}' AND queue = 'xero' AND actor = 'sync_bill' AND body->>'bill_id' = ANY(%(ids)s)
        """
        for state in ("ready", "sent", "calling", "dead")
    )
    rows = await conn.all(
        f"""
        SELECT bill_id, coalesce(array_agg(id) FILTER (WHERE state = 'dead'), '{{}}'), bool_or(state <> 'dead')
        FROM ({by_state}) unfinished GROUP BY bill_id
        """,
        {"ids": [str(bill_id) for bill_id in bill_ids]},
    )
    found = {bill_id: _Messages(tuple(dead), under_way) for bill_id, dead, under_way in rows}
    return {bill_id: found.get(bill_id, _Messages()) for bill_id in bill_ids}


def _why_skipped(status: str | None, messages: _Messages, replayed: Collection[UUID], sendable: Collection[str]) -> str | None:
    """Why a bill with that Xero status is not sent, as a sentence. None: it is sent.

    `replayed` are the ids of the dead letters that this call of `send_again` has replayed. `sendable` are the Xero statuses
    that it sends.
    """
    if status is None:
        return "There is no such time bill."
    is_replayed = any(message_id in replayed for message_id in messages.dead)
    if status not in sendable:
        why = _WHY_NOT.get(status, f"It has not failed: its Xero status is {status}.")
        return f"{why} Its dead letter, of an earlier failure, was replayed." if is_replayed else why
    if messages.dead and not is_replayed:
        return "Somebody else is changing its dead letter at this moment; try again."
    if status == "failed" and messages.under_way and not messages.dead:
        return "It is being sent again already."
    return None


_WHY_NOT = {
    "none": "It has not failed: it is not approved, or has 0 minutes.",
    "queued": "It is being sent already.",
    "synced": "It is in Xero already.",
    "accepted": "What is in Xero was accepted.",
    "differs": "Its time entry was changed in Xero by hand: an admin sends it again, or accepts what is there.",
    "not_connected": "It is sent automatically once Xero is connected.",
    "not_mapped": "It is sent automatically once what `xero.error` names is mapped.",
    "withdrawing": "It is being withdrawn from Xero.",
}


async def _overwrite(conn: Connection, bill_ids: Collection[UUID]) -> None:
    """Records that Stint may write these bills over what somebody has changed in their entries in Xero."""
    await conn.execute(
        """
        UPDATE xero_entries SET overwrite = true, accepted = false WHERE bill_id IN (
            SELECT bill_id FROM xero_entries WHERE bill_id = ANY(%s) AND difference IS NOT NULL AND NOT withdrawing
            ORDER BY bill_id FOR NO KEY UPDATE)
        """,
        (list(bill_ids),),
    )


async def _show_queued(conn: Connection, bill_ids: Collection[UUID]) -> None:
    await conn.execute(
        """
        UPDATE time_bills b SET xero_error = NULL, xero_accepted = NULL, xero_status = CASE WHEN EXISTS (
            SELECT FROM xero_entries e WHERE e.bill_id = b.id AND e.withdrawing) THEN 'withdrawing' ELSE 'queued' END
        WHERE b.id = ANY(%s) AND (b.xero_status IN ('failed', 'differs') OR b.xero_accepted IS NOT NULL)
        """,
        (list(bill_ids),),
    )
