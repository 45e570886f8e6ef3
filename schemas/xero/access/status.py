"""The state of the connection to Xero, as an admin sees it: access, limits, and where the bills stand."""

from datetime import datetime
from typing import Annotated

from psycopg.types.json import Jsonb
from pydantic import Field

from schemas.base import Row, json_object
from schemas.postgres.connection import Connection, one_json
from schemas.settings import Settings
from schemas.xero.access import connecting, problems


class AccessLost(Row):
    """Xero gives Stint no access to the connected organisation. Bills wait, and are sent automatically once it does."""

    kind: Annotated[
        str,
        Field(
            description="`revoked`, `unlinked`, `app_refused`, `not_provisioned`, `lost_scopes`, `forbidden`, `offline` or "
            "`unavailable`: docs/xero.md"
        ),
    ]
    since: datetime
    text: Annotated[str, Field(description="what is wrong")]
    cure: Annotated[str, Field(description="what to do")]
    next_check_at: Annotated[datetime | None, Field(description="when Stint tries again; null: once Xero is connected again")]


class SentBillCounts(Row):
    """How many bills have each `xero.status` but `none`: those that go to Xero or are there."""

    queued: int
    synced: int
    failed: int
    not_connected: int
    not_mapped: int
    withdrawing: int
    differs: int


class BillCounts(SentBillCounts):
    """How many bills have each `xero.status`."""

    none: int


class ConnectionStatus(Row):
    """The state of the connection to Xero."""

    connected: bool
    connecting: Annotated[bool, Field(description="POST /api/xero/connect was answered 202, and continues")]
    connect_error: Annotated[str | None, Field(description="why the last attempt to connect failed, and what to do")]
    tenant_name: str | None
    tenant_id: Annotated[str | None, Field(description="Xero's id of the organisation")]
    connected_by: Annotated[str | None, Field(description="the e-mail address of the admin who connected it")]
    connected_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="of the access token, which is renewed automatically")]
    needs_reconnect: Annotated[
        bool, Field(description="an admin has to connect it again; `accessLost` says since when and why")
    ]
    access_lost: AccessLost | None
    paused_until: Annotated[datetime | None, Field(description="no call is made before, because of a rate limit")]
    paused_because: Annotated[
        str | None, Field(description="the limit: `minute`, `day`, `concurrent` or `appminute`; null: Xero did not say which")
    ]
    calls_used: Annotated[int, Field(description="calls in the last 24 hours that count for the limit of a day")]
    calls_left: int
    last_sync: Annotated[datetime | None, Field(description="when a bill was last synced to Xero")]
    last_success: Annotated[
        datetime | None, Field(description="when a call last succeeded, in the last two days, or a bill was synced")
    ]
    queued: Annotated[int, Field(description="bills that are being sent to Xero or withdrawn from it")]
    failed: Annotated[int, Field(description="bills that could not be sent; `xero.error` of each says why")]


class XeroStatus(ConnectionStatus):
    """The state of the connection to Xero, and of the bills that go there."""

    bills: BillCounts


# Counts of bills by `xero.status`: of those that wait, of those that go to Xero or are there, and of all. Postgres evaluates
# only what a statement uses. Each part reads an index: that of the bills that wait, of those that were synced, of those that
# differ, of all that are approved, and of all others. What is left has the status none.
_COUNTED_BILLS = """
    waiting AS (
        SELECT count(*) FILTER (WHERE xero_status = 'queued') AS queued,
               count(*) FILTER (WHERE xero_status = 'failed') AS failed,
               count(*) FILTER (WHERE xero_status = 'not_connected') AS not_connected,
               count(*) FILTER (WHERE xero_status = 'not_mapped') AS not_mapped,
               count(*) FILTER (WHERE xero_status = 'withdrawing') AS withdrawing,
               count(*) AS all_waiting, count(xero_synced_at) AS synced_before
        FROM time_bills WHERE xero_status IN ('queued', 'failed', 'not_connected', 'not_mapped', 'withdrawing')
    ), sent AS (
        SELECT *, (SELECT count(*) FROM time_bills WHERE xero_synced_at IS NOT NULL) - synced_before AS synced,
               (SELECT count(*) FROM time_bills WHERE xero_status = 'differs') AS differs
        FROM waiting
    ), bills AS (
        SELECT *, (SELECT count(*) FROM time_bills WHERE status = 'approved' AND deleted_at IS NULL)
                   + (SELECT count(*) FROM time_bills WHERE status <> 'approved' AND deleted_at IS NULL)
                   - all_waiting - synced - differs AS none
        FROM sent
    )
"""


async def status(conn: Connection, settings: Settings) -> bytes:
    """The status as JSON (XeroStatus). It counts all bills; what does not show them calls `connection_status`."""
    bills = f"(SELECT {json_object(BillCounts, 'bills')} FROM bills)"
    return await _status(conn, settings, f"SELECT s.*, {bills} AS bills FROM s", XeroStatus)


async def connection_status(conn: Connection, settings: Settings) -> ConnectionStatus:
    """The status without the bills that were sent or never go to Xero, which are many."""
    found = await _status(conn, settings, "SELECT * FROM s", ConnectionStatus)
    return ConnectionStatus.from_json(found)


async def count_sent(conn: Connection) -> SentBillCounts:
    """The bills that go to Xero or are there, by their status."""
    columns = ", ".join(SentBillCounts.model_fields)
    return await conn.one(f"WITH {_COUNTED_BILLS} SELECT {columns} FROM sent", row=SentBillCounts)


async def count_differing(conn: Connection) -> int:
    """The bills that somebody has changed in Xero."""
    found: int = await conn.value("SELECT count(*) FROM time_bills WHERE xero_status = 'differs'")
    return found


async def _status(conn: Connection, settings: Settings, shown: str, model: type[Row]) -> bytes:
    found = await one_json(
        conn,
        f"""
        WITH {_COUNTED_BILLS},
        calls AS (
            SELECT (SELECT count(*) FROM xero_calls
                    WHERE tenant_id = x.tenant_id AND ends_at > now() - interval '1 day') AS used,
                   (SELECT ends_at FROM xero_calls WHERE tenant_id = x.tenant_id AND succeeded
                    ORDER BY ends_at DESC LIMIT 1) AS last_success,
                   (SELECT ends_at + interval '1 day' FROM xero_calls WHERE tenant_id = x.tenant_id
                    ORDER BY ends_at DESC OFFSET %(day)s - 1 LIMIT 1) AS day_free_at
            FROM xero_connection x
        ), s AS (
            SELECT x.tenant_id IS NOT NULL AS connected, coalesce(x.connecting_until > now(), false) AS connecting,
                   CASE WHEN x.connecting_until <= now() THEN %(lost)s ELSE x.connect_error END AS connect_error,
                   x.tenant_name, x.tenant_id, x.connected_at, x.expires_at,
                   (SELECT email FROM users WHERE id = x.connected_by) AS connected_by,
                   needs_reconnect_at IS NOT NULL AND (words.problem->>'reconnect')::boolean AS needs_reconnect,
                   CASE WHEN needs_reconnect_at IS NOT NULL THEN {json_object(AccessLost, "lost")} END AS access_lost,
                   CASE WHEN pause.until > now() THEN pause.until END AS paused_until,
                   CASE WHEN pause.until > now() THEN
                       CASE WHEN pause.until = o.paused_until THEN o.pause_reason ELSE 'day' END END AS paused_because,
                   calls.used AS calls_used, greatest(0, %(day)s - calls.used) AS calls_left,
                   sync.last AS last_sync, greatest(sync.last, calls.last_success) AS last_success,
                   waiting.queued + waiting.withdrawing AS queued, waiting.failed
            FROM xero_connection x LEFT JOIN xero_tenants o ON o.tenant_id = x.tenant_id CROSS JOIN calls CROSS JOIN waiting
            CROSS JOIN LATERAL (SELECT max(xero_synced_at) AS last FROM time_bills) sync
            CROSS JOIN LATERAL (SELECT greatest(o.paused_until, calls.day_free_at) AS until) pause
            CROSS JOIN LATERAL (SELECT %(words)s::jsonb->coalesce(x.access_problem, 'revoked') AS problem) words
            CROSS JOIN LATERAL (
                SELECT coalesce(x.access_problem, 'revoked') AS kind, x.needs_reconnect_at AS since,
                       replace(words.problem->>'text', %(organisation)s, coalesce(x.tenant_name, 'the organisation')) AS text,
                       words.problem->>'cure' AS cure, x.access_check_at AS next_check_at) lost
        )
        SELECT {json_object(model, "shown")} FROM ({shown}) shown
        """,
        {
            "day": settings.xero_calls_per_day,
            "words": Jsonb(problems.all_words()),
            "organisation": problems.ORGANISATION,
            "lost": connecting.LOST,
        },
    )
    assert found is not None
    return found
