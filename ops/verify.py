"""`./stint verify`: checks the invariants of a live database, in one snapshot, and names each row that breaks one."""

import argparse
import asyncio
from dataclasses import dataclass

from schemas.database import connect
from schemas.settings import Settings, settings


@dataclass(frozen=True)
class Invariant:
    """What must hold, and a query that names the rows where it does not (one text column, read as a sentence)."""

    promise: str
    query: str


INVARIANTS = [
    Invariant(
        "every entry is on exactly one bill, of its own user, customer, pillar and day",
        """
        SELECT format('time entry %%s: %%s', e.id, CASE
            WHEN b.id IS NULL THEN 'is on no bill'
            WHEN b.deleted_at IS NOT NULL THEN format('is on bill %%s, which is deleted', b.id)
            ELSE format('is on bill %%s, which is another key''s', b.id) END)
        FROM time_entries e LEFT JOIN time_bills b ON b.id = e.bill_id
        WHERE e.deleted_at IS NULL AND (b.id IS NULL OR b.deleted_at IS NOT NULL
            OR (b.user_id, b.customer_id, b.pillar_id, b.date) <> (e.user_id, e.customer_id, e.pillar_id, e.date))
        """,
    ),
    Invariant(
        "an entry's customer is its pillar's customer",
        """
        SELECT format('time entry %%s: its pillar %%s is another customer''s', e.id, e.pillar_id)
        FROM time_entries e JOIN pillars p ON p.id = e.pillar_id WHERE p.customer_id <> e.customer_id
        """,
    ),
    Invariant(
        "an entry that is not on an approved bill stands where its task does, or follows it",
        """
        SELECT format('time entry %%s: is of customer %%s, its task %%s of %%s', e.id, e.customer_id, t.id, t.customer_id)
        FROM time_entries e JOIN tasks t ON t.id = e.task_id LEFT JOIN time_bills b ON b.id = e.bill_id
        WHERE (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id) AND e.deleted_at IS NULL
            AND b.status IS DISTINCT FROM 'approved' AND NOT EXISTS (
                SELECT FROM messages m WHERE m.actor = 'move_entries' AND m.state <> 'done' AND m.body->>'task_id' = t.id::text)
        """,
    ),
    Invariant(
        "nothing is left of a deleted customer or pillar: no task, no hours, no running timer",
        """
        SELECT format('%%s %%s: of customer %%s, pillar %%s, of which one is deleted', r.noun, r.id, r.customer_id, r.pillar_id)
        FROM (
            SELECT 'task' AS noun, id, customer_id, pillar_id FROM tasks WHERE deleted_at IS NULL
            UNION ALL SELECT 'pillar', id, customer_id, id FROM pillars WHERE deleted_at IS NULL
            UNION ALL SELECT 'channel mapping', m.id, m.customer_id, coalesce(m.pillar_id, d.id)
            FROM slack_channel_mappings m JOIN pillars d ON d.customer_id = m.customer_id AND d.is_default
            WHERE m.deleted_at IS NULL
            UNION ALL SELECT 'time bill', id, customer_id, pillar_id FROM time_bills WHERE deleted_at IS NULL
            UNION ALL SELECT 'time entry', id, customer_id, pillar_id FROM time_entries WHERE deleted_at IS NULL
            UNION ALL SELECT 'timer', r.id, t.customer_id, t.pillar_id FROM timers r JOIN tasks t ON t.id = r.task_id
        ) r JOIN customers c ON c.id = r.customer_id JOIN pillars p ON p.id = r.pillar_id
        WHERE c.deleted_at IS NOT NULL OR p.deleted_at IS NOT NULL
        """,
    ),
    Invariant(
        "every customer has a default pillar, and that is active",
        """
        SELECT format('customer %%s: has none', c.id) FROM customers c
        WHERE c.deleted_at IS NULL AND NOT EXISTS (
            SELECT FROM pillars p WHERE p.customer_id = c.id AND p.is_default AND p.active AND p.deleted_at IS NULL)
        """,
    ),
    Invariant(
        "an entry's duration is its end less its start",
        """
        SELECT format('time entry %%s: %%s s, but lasts %%s s', id, duration, extract(epoch FROM end_time - start_time))
        FROM time_entries WHERE end_time < start_time OR duration <> extract(epoch FROM end_time - start_time)
        """,
    ),
    Invariant(
        "every bill that is not stale sums its entries",
        """
        SELECT format('time bill %%s: %%s s, but its entries sum to %%s s', b.id, b.seconds, s.seconds)
        FROM time_bills b CROSS JOIN LATERAL (
            SELECT coalesce(sum(e.duration), 0) AS seconds
            FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL) s
        WHERE NOT b.stale AND b.deleted_at IS NULL AND b.seconds <> s.seconds
        """,
    ),
    Invariant(
        "a bill's minutes follow its rounding rule",
        """
        SELECT format('time bill %%s: %%s minutes for %%s s, rounded to %%s min %%s',
                      id, minutes, seconds, rounding_increment, rounding_mode)
        FROM time_bills
        WHERE minutes <> rounding_increment * CASE rounding_mode
            WHEN 'up' THEN ceil(seconds / (rounding_increment * 60.0))
            ELSE floor(seconds / (rounding_increment * 60.0) + 0.5) END
        """,
    ),
    Invariant(
        "a key has at most one open bill",
        """
        SELECT format('time bills %%s: all open for one key', string_agg(id::text, ', '))
        FROM time_bills WHERE status <> 'approved' AND deleted_at IS NULL
        GROUP BY user_id, customer_id, pillar_id, date HAVING count(*) > 1
        """,
    ),
    Invariant(
        "no approved bill changed after its approval",
        """
        SELECT format('time bill %%s: approved with %%s s, now %%s s%%s', b.id, b.approved_seconds, b.seconds,
                      CASE WHEN b.stale THEN ', stale' ELSE '' END)
        FROM time_bills b
        WHERE b.status = 'approved' AND (b.approved_seconds IS DISTINCT FROM b.seconds OR b.stale OR b.approved_at IS NULL)
        UNION ALL
        SELECT format('time bill %%s: its entry %%s changed after the approval', b.id, e.id)
        FROM time_bills b JOIN time_entries e ON e.bill_id = b.id
        WHERE b.status = 'approved' AND e.updated_at > b.approved_at
        """,
    ),
    Invariant(
        "an approved bill says where it stands in Xero, and no other bill is there",
        """
        SELECT format('time bill %%s: is %%s, and %%s in Xero', b.id, b.status, b.xero_status) FROM time_bills b
        WHERE b.deleted_at IS NULL AND (b.status = 'approved') = (b.xero_status = 'none')
        UNION ALL
        SELECT format('time bill %%s: is %%s, but has an entry in Xero, or may have one', b.id, b.status)
        FROM time_bills b JOIN xero_entries e ON e.bill_id = b.id
        WHERE b.status <> 'approved' AND (e.entry_ids <> '{}' OR e.attempted_at IS NOT NULL OR e.withdrawing)
        """,
    ),
    Invariant(
        "a bill that is synced has one entry in Xero",
        """
        SELECT format('time bill %%s: is synced as %%s, but known there as %%s', b.id, b.xero_time_entry_id, e.entry_ids)
        FROM time_bills b LEFT JOIN xero_entries e ON e.bill_id = b.id
        WHERE b.xero_status = 'synced' AND e.entry_ids IS DISTINCT FROM ARRAY[b.xero_time_entry_id]
        """,
    ),
    Invariant(
        "a bill on its way to Xero, or on its way back, has a message that carries it",
        """
        SELECT format('time bill %%s: is %%s since %%s, and nothing carries it', b.id, b.xero_status, b.updated_at)
        FROM time_bills b
        WHERE (b.xero_status = 'queued' OR b.xero_status = 'withdrawing' AND b.xero_error IS NULL) AND NOT EXISTS (
            SELECT FROM messages m WHERE m.actor = 'sync_bill' AND m.state IN ('ready', 'sent', 'calling')
                AND m.body->>'bill_id' = b.id::text)
        """,
    ),
    Invariant(
        "no message stays sent or calling past its time",
        """
        SELECT format('message %%s (%%s): %%s since %%s', id, actor, state, coalesce(lease_until, sent_at))
        FROM messages
        WHERE state = 'sent'
            AND sent_at < clock_timestamp() - make_interval(secs => %(sent_seconds)s * power(2, least(publication - 1, 7)))
           OR state = 'calling' AND lease_until < clock_timestamp() - make_interval(secs => 60)
        """,
    ),
    Invariant(
        "every stop became an entry, or is on its way",
        """
        SELECT format('stop of task %%s by user %%s: message %%s is done, but there is no entry %%s',
                      s.task_id, s.user_id, m.id, s.entry_id)
        FROM stops s JOIN messages m ON m.id = s.message_id
        WHERE m.state = 'done' AND NOT EXISTS (SELECT FROM time_entries e WHERE e.id = s.entry_id)
        """,
    ),
]


async def verify(given: Settings) -> list[str]:
    """One sentence per broken row, each led by the promise that it breaks; empty when all is well."""
    found: list[str] = []
    # a sweep comes every two seconds: what is twice as old as it lets pass is stuck
    parameters = {"sent_seconds": given.stint_sent_seconds * 2}
    async with await connect(given) as conn:
        await conn.execute("SET statement_timeout = 0")
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for invariant in INVARIANTS:
                cursor = await conn.execute(invariant.query.encode(), parameters)
                found += [f"{invariant.promise}: {row[0]}" for row in await cursor.fetchall()]
    return found


def run(args: argparse.Namespace) -> int:
    """Prints what is broken and returns 1, or says that nothing is and returns 0."""
    found = asyncio.run(verify(settings()))
    for sentence in found:
        print(f"BROKEN  {sentence}")
    if found:
        print(f"{len(found)} rows break an invariant. Nothing was changed; docs/operations.md says what to do.")
        return 1
    print(f"{len(INVARIANTS)} invariants hold.")
    return 0
