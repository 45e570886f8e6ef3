"""Whose App Home shows something that has changed: found by the transactions that have changed rows, as for live events
(schemas/sync/live_events.py), so that no write of the firm's own costs more than without Slack.

Each relay looks every two seconds, by one statement. It finds a Home also if only a row has changed that the Home might show: a
message whose view is the same as before makes no call. After a relay has started, and in another epoch, all Homes are checked.
At midnight, a Home shows another day.
"""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.postgres.connection import Connection
from schemas.postgres.foreign_xids import FIRST_UNUSED
from schemas.settings import Settings
from schemas.slack.home import homes
from schemas.slack.home.homes import KEPT_DAYS
from schemas.slack.typed.times import zone_of

MOST_ROWS = 1_000  # of one table between two looks; after more, all Homes are checked
QUARTER_SECONDS = 900  # midnight in any time zone is a quarter of an hour in UTC


@dataclass(frozen=True)
class Snapshot:
    """What was visible at a look, the epoch of sync cursors at that time, and when it was."""

    text: str
    epoch: int | None
    at: datetime


def _is_changed(table: str) -> str:
    return f"""
        {table}.changed_xid >= pg_snapshot_xmin(%(since)s::pg_snapshot)
        AND {table}.changed_xid < {FIRST_UNUSED}   -- not the rows of a restored dump
        AND NOT pg_visible_in_snapshot({table}.changed_xid, %(since)s::pg_snapshot)
    """


def _changed(table: str, columns: str) -> str:
    """The changed rows of a table. Ordered and limited, so that every plan uses the index of changed_xid."""
    where = f"WHERE {_is_changed(table)} ORDER BY {table}.changed_xid LIMIT {MOST_ROWS + 1}"
    return f"{table}_changed AS MATERIALIZED (SELECT {columns} FROM {table} {where})"


def _own(table: str) -> str:
    """Whether a row of the Home's user has changed in a table whose index begins with the user."""
    where = f"{table}.user_id = h.user_id AND {_is_changed(table)}"
    return f"coalesce((SELECT true FROM {table} WHERE {where} ORDER BY {table}.changed_xid LIMIT 1), false)"


# a Home that is stale is published however long ago it was opened: its person may have lost access
_KEPT = f"""
    h.user_id IS NOT NULL AND (h.is_stale OR h.opened_at > clock_timestamp() - make_interval(days => {KEPT_DAYS}))
"""
_LOOK = f"""
    WITH {_changed("tasks", "id, coalesce(assignee_id, created_by) AS owner_id")},
         {_changed("customers", "id")}, {_changed("pillars", "id")}, {_changed("users", "id")},
         {_changed("time_bills", "date")}
    SELECT pg_current_snapshot()::text, sync_epoch(), now(), ARRAY(
        SELECT h.slack_id FROM slack_homes h
        WHERE {_KEPT} AND (
            h.is_stale OR {_own("timers")} OR {_own("timer_ends")} OR {_own("time_entries")}
            OR EXISTS (SELECT FROM users_changed WHERE id = h.user_id)
            OR EXISTS (SELECT FROM tasks_changed WHERE owner_id = h.user_id
                OR id = (SELECT task_id FROM timers WHERE user_id = h.user_id))
            OR EXISTS (SELECT FROM customers_changed) AND (h.is_admin
                OR EXISTS (SELECT FROM customers_changed c JOIN tasks t ON t.customer_id = c.id
                    WHERE coalesce(t.assignee_id, t.created_by) = h.user_id
                        OR t.id = (SELECT task_id FROM timers WHERE user_id = h.user_id))
                OR (SELECT count(*) FROM customers_changed) > {MOST_ROWS})
            OR (SELECT count(*) FROM tasks_changed) > {MOST_ROWS} OR (SELECT count(*) FROM users_changed) > {MOST_ROWS}
            OR h.is_admin AND (
                EXISTS (SELECT FROM time_bills_changed WHERE date < (clock_timestamp() AT TIME ZONE %(zone)s)::date)
                OR (SELECT count(*) FROM time_bills_changed) > {MOST_ROWS}
                OR EXISTS (SELECT FROM pillars_changed) OR EXISTS (SELECT FROM users_changed)))
    )
"""
_ALL = f"""
    SELECT pg_current_snapshot()::text, sync_epoch(), now(), ARRAY(SELECT h.slack_id FROM slack_homes h WHERE {_KEPT})
"""


async def publish_changed(conn: Connection, since: Snapshot | None, settings: Settings) -> Snapshot | None:
    """Enqueues messages for the Homes that may have changed since that snapshot; None: for all. Returns the snapshot for the
    next look; None without a bot token, since nothing is published then."""
    if settings.slack_bot_token is None:
        return None
    parameters = {"since": since.text if since else "", "zone": settings.stint_timezone}
    text, epoch, at, changed = await conn.one(_LOOK if since else _ALL, parameters)
    if since is not None and epoch != since.epoch:
        text, epoch, at, changed = await conn.one(_ALL)
    if since is not None:
        changed += await _of_a_new_day(conn, since.at, at, settings)
    if changed:
        async with conn.transaction():
            await homes.request(conn, changed)
    return Snapshot(text, epoch, at)


async def _of_a_new_day(conn: Connection, before: datetime, now: datetime, settings: Settings) -> list[str]:
    """The Homes in whose time zone a day has begun between the two times. Admins are shown bills of the firm's days, too."""
    if before.timestamp() // QUARTER_SECONDS == now.timestamp() // QUARTER_SECONDS:
        return []
    query = f"SELECT h.slack_id, h.is_admin, s.tz FROM slack_homes h LEFT JOIN slack_users s USING (slack_id) WHERE {_KEPT}"
    firm = ZoneInfo(settings.stint_timezone)

    def is_new(zone: ZoneInfo) -> bool:
        return before.astimezone(zone).date() != now.astimezone(zone).date()

    return [
        slack_id
        for slack_id, is_admin, tz in await conn.all(query)
        if is_new(zone_of(tz, settings)) or (is_admin and is_new(firm))
    ]
