"""`./stint verify`: checks the invariants of a live database in one snapshot, and names each row that breaks one."""

import argparse
import asyncio
from dataclasses import dataclass

from schemas.postgres.connection import connect
from schemas.postgres.foreign_xids import CHANGED_BY, FIRST_UNUSED
from schemas.reports import hours
from schemas.settings import Settings, settings


@dataclass(frozen=True)
class Invariant:
    """A rule that always holds, and a query for the rows that break it (one text column with a sentence for each row)."""

    rule: str
    query: str


_KEYS = {"focus": "user_id", "timer_ends": "user_id", "task_moves": "task_id", "bill_reopenings": "bill_id"}


def _changed_in_the_future() -> str:
    """Rows of a restored dump contain transaction ids of another server: the relay corrects them, and then begins an epoch."""
    return " UNION ALL ".join(
        f"""
        SELECT format('%%s of %%s: {column} is %%s, which no transaction has had yet; restart the relay, which corrects it',
                      '{table}', r.{_KEYS.get(table, "id")}, {column})
        FROM {table} r WHERE {column} >= {FIRST_UNUSED} AND sync_epoch() IS NOT NULL
        """
        for table, columns in CHANGED_BY.items()
        for column in columns
    )


INVARIANTS = [
    Invariant("no row was changed by a transaction of the future", _changed_in_the_future()),
    Invariant(
        "every entry is on exactly one bill, of its own user, customer, pillar and day",
        """
        SELECT format('time entry %%s: %%s', e.id, CASE
            WHEN b.id IS NULL THEN 'is on no bill'
            WHEN b.deleted_at IS NOT NULL THEN format('is on bill %%s, which is deleted', b.id)
            ELSE format('is on bill %%s, which has another user, customer, pillar or day', b.id) END)
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
        "an entry that is not on an approved bill has its task's customer and pillar, or a message will move it there",
        """
        SELECT format('time entry %%s: is of customer %%s, its task %%s of %%s', e.id, e.customer_id, t.id, t.customer_id)
        FROM time_entries e JOIN tasks t ON t.id = e.task_id LEFT JOIN time_bills b ON b.id = e.bill_id
        WHERE (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id) AND e.deleted_at IS NULL
            AND b.status IS DISTINCT FROM 'approved' AND NOT EXISTS (
                SELECT FROM messages m WHERE m.actor = 'move_entries' AND m.state <> 'done' AND m.body->>'task_id' = t.id::text)
        """,
    ),
    Invariant(
        "a deleted customer or pillar has no task, no hours and no running timer",
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
        "every customer has a default pillar that is active",
        """
        SELECT format('customer %%s: has no active default pillar', c.id) FROM customers c
        WHERE c.deleted_at IS NULL AND NOT EXISTS (
            SELECT FROM pillars p WHERE p.customer_id = c.id AND p.is_default AND p.active AND p.deleted_at IS NULL)
        """,
    ),
    Invariant(
        "an entry's duration is its end minus its start",
        """
        SELECT format('time entry %%s: %%s s, but lasts %%s s', id, duration, extract(epoch FROM end_time - start_time))
        FROM time_entries WHERE end_time < start_time OR duration <> extract(epoch FROM end_time - start_time)
        """,
    ),
    Invariant(
        "no entry starts before the year 2000, or ends further ahead than STINT_FUTURE_HOURS",
        """
        SELECT format('time entry %%s: lasts from %%s to %%s', id, start_time, end_time) FROM time_entries
        WHERE deleted_at IS NULL AND (start_time < '2000-01-01T00:00:00Z'
            OR end_time > clock_timestamp() + make_interval(secs => %(future_seconds)s::float))
        """,
    ),
    Invariant(
        "no approved bill is of a day that has not come",
        """
        SELECT format('time bill %%s: is of %%s, and was approved at %%s', id, date, approved_at) FROM time_bills
        WHERE status = 'approved' AND date > (clock_timestamp() AT TIME ZONE %(zone)s)::date
        """,
    ),
    Invariant(
        "an entry has the flag overlap exactly if it shares time with another entry of its user",
        """
        SELECT format('time entry %%s: %%s', e.id, CASE WHEN e.overlap
            THEN 'has the flag overlap, but overlaps no other entry' ELSE 'overlaps another entry, but has no flag overlap' END)
        FROM (  -- one pass over all entries finds those that may overlap; the rule is applied to these
            SELECT id, user_id, start_time, end_time, overlap, lead(start_time) OVER later AS next_start,
                   max(end_time) OVER (later ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS end_before
            FROM time_entries WHERE deleted_at IS NULL
            WINDOW later AS (PARTITION BY user_id ORDER BY start_time, id)
        ) e
        WHERE (e.overlap OR next_start < end_time OR end_before > start_time)
            AND e.overlap <> EXISTS (
                SELECT FROM overlapping_entries(e.user_id, e.start_time, e.end_time) other WHERE other.id <> e.id)
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
        "an entry is on every bill that is not stale",
        """
        SELECT format('time bill %%s: is %%s, but no entry is on it', b.id, b.status) FROM time_bills b
        WHERE NOT b.stale AND b.deleted_at IS NULL
            AND NOT EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL)
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
    Invariant("the sums in reports of hours are exactly those of the bills", hours.wrong_sums()),
    Invariant(
        "there is at most one open bill for a user, customer, pillar and day",
        """
        SELECT format('time bills %%s: all open for the same user, customer, pillar and day', string_agg(id::text, ', '))
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
        "an approved bill has a state in Xero, and no other bill has an entry there",
        """
        SELECT format('time bill %%s: is %%s, and %%s in Xero', b.id, b.status, b.xero_status) FROM time_bills b
        WHERE b.deleted_at IS NULL AND (b.status = 'approved' AND b.minutes > 0) = (b.xero_status = 'none')
        UNION ALL
        SELECT format('time bill %%s: is %%s, but has an entry in Xero, or may have one', b.id, b.status)
        FROM time_bills b JOIN xero_entries e ON e.bill_id = b.id
        WHERE b.status <> 'approved' AND (e.entry_ids <> '{}' OR e.create_attempted_at IS NOT NULL OR e.withdrawing)
        """,
    ),
    Invariant(
        "a bill that is synced has one entry in Xero",
        """
        SELECT format('time bill %%s: is synced as %%s, but its Xero entries are %%s', b.id, b.xero_time_entry_id, e.entry_ids)
        FROM time_bills b LEFT JOIN xero_entries e ON e.bill_id = b.id
        WHERE b.xero_status = 'synced' AND e.entry_ids IS DISTINCT FROM ARRAY[b.xero_time_entry_id]
        """,
    ),
    Invariant(
        "a bill that differs from its entry in Xero, or was accepted so, shows what somebody has changed there",
        """
        SELECT format('time bill %%s: is %%s in Xero, accepted: %%s; changed there: %%s, and accepted: %%s', b.id,
                      b.xero_status, b.xero_accepted IS NOT NULL, e.difference IS NOT NULL, coalesce(e.accepted, false))
        FROM time_bills b LEFT JOIN xero_entries e ON e.bill_id = b.id
        WHERE (b.xero_status = 'differs' AND (e.difference IS NULL OR e.accepted OR b.xero_difference IS NULL))
           OR (b.xero_accepted IS NOT NULL) <> coalesce(e.accepted, false)
           OR (b.xero_accepted IS NOT NULL AND (b.xero_status <> 'synced' OR e.difference IS NULL))
        """,
    ),
    Invariant(
        "a bill that is queued for Xero, or for withdrawal from it, has a message",
        """
        SELECT format('time bill %%s: is %%s since %%s, and has no message', b.id, b.xero_status, b.updated_at)
        FROM time_bills b
        WHERE (b.xero_status = 'queued' OR b.xero_status = 'withdrawing' AND b.xero_error IS NULL) AND NOT EXISTS (
            SELECT FROM messages m WHERE m.actor = 'sync_bill' AND m.state IN ('ready', 'sent', 'calling')
                AND m.body->>'bill_id' = b.id::text)
        """,
    ),
    Invariant(
        "a user whose access was revoked has no session and no code to sign in with",
        """
        SELECT format('user %%s: revoked at %%s, but tokens are refused only up to %%s', id, revoked_at, sessions_after)
        FROM users WHERE sessions_after < revoked_at
        UNION ALL SELECT format('user %%s: revoked at %%s, but has a code to sign in with', u.id, u.revoked_at)
        FROM users u JOIN sign_in_codes c ON c.user_id = u.id WHERE u.revoked_at IS NOT NULL
        """,
    ),
    Invariant(
        "no message stays sent or calling longer than its limit",
        """
        SELECT format('message %%s (%%s): %%s since %%s', id, actor, state, coalesce(lease_until, sent_at))
        FROM messages
        WHERE state = 'sent'
            AND sent_at < clock_timestamp() - make_interval(secs => %(sent_seconds)s * power(2, least(delivery_number - 1, 7)))
           OR state = 'calling' AND lease_until < clock_timestamp() - make_interval(secs => 60)
        """,
    ),
    Invariant(
        "every stop has an entry, or a message that will create it",
        """
        SELECT format('stop of task %%s by user %%s: message %%s is done, but there is no entry %%s',
                      s.task_id, s.user_id, m.id, s.entry_id)
        FROM stops s JOIN messages m ON m.id = s.message_id
        WHERE m.state = 'done' AND NOT EXISTS (SELECT FROM time_entries e WHERE e.id = s.entry_id)
        """,
    ),
]


async def verify(settings: Settings) -> list[str]:
    """One sentence for each row that breaks an invariant, which begins with the invariant's rule."""
    broken: list[str] = []
    # the rescuer runs every two seconds, so a message of twice its limit is stuck
    parameters = {
        "sent_seconds": settings.stint_sent_seconds * 2,
        "future_seconds": settings.stint_future_hours * 3600,
        "zone": settings.stint_timezone,
    }
    async with await connect(settings) as conn:
        await conn.execute("SET statement_timeout = 0")
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for invariant in INVARIANTS:
                broken += [f"{invariant.rule}: {sentence}" for sentence in await conn.values(invariant.query, parameters)]
    return broken


def run(args: argparse.Namespace) -> int:
    """Prints the broken rows and returns 1, or returns 0 when there are none."""
    broken = asyncio.run(verify(settings()))
    for sentence in broken:
        print(f"BROKEN  {sentence}")
    if broken:
        print(f"Rows that break an invariant: {len(broken)}. Nothing was changed; docs/operations.md says what to do.")
        return 1
    print(f"{len(INVARIANTS)} invariants hold.")
    return 0
