"""Xero's users, whom a time entry can name. Consultants are matched by e-mail address; the list is read again for a consultant
who is not in it, or whom Xero refuses.

A read of the list is one call for each page. Only a read of all pages removes users. If a later call has started, the answer of
an earlier one is ignored.
"""

from dataclasses import dataclass
from datetime import datetime

from schemas.email_addresses import email_key, one_spelling
from schemas.messages import QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings

MAX_PAGES = 20  # 10,000 users
# A consultant who is not among Xero's users may be invited at any time: the users are read again when they are older than this.
# A read that has not finished by then starts again.
USERS_SECONDS = 600


@dataclass(frozen=True)
class UsersPage:
    """A page of the users whom a time entry can name, each as (id, `address_key` of the e-mail address). `total`: how many are
    on all pages, if Xero says so."""

    users: list[tuple[str, str]]
    total: int | None
    is_last: bool


@dataclass(frozen=True)
class UsersCall:
    """A call for one page of users. `at` tells it from later ones."""

    page: int
    at: datetime


def address_key(address: str | None) -> str:
    """The key of an address that Xero or a setting names, as it is stored for Xero's users."""
    return email_key(one_spelling(address or ""))


def fallback_key(settings: Settings) -> str | None:
    """The key of the address of XERO_FALLBACK_USER; None without one: users in Xero without an address are nobody."""
    return address_key(settings.xero_fallback_user) or None


async def start_call(conn: Connection, tenant_id: str) -> UsersCall:
    """The call for the next page of the current read, or for the first page of a new one. Marks it as running, so that other
    bills wait for its result instead of making the same call."""
    return await conn.one(
        """
        WITH current AS (
            SELECT tenant_id, users_pages > 0
                AND users_read_at > clock_timestamp() - make_interval(secs => %(seconds)s) AS goes_on
            FROM xero_tenants WHERE tenant_id = %(tenant)s FOR NO KEY UPDATE
        )
        UPDATE xero_tenants t
        SET users_requested_at = clock_timestamp(), users_pages = CASE WHEN goes_on THEN t.users_pages ELSE 0 END,
            users_read_at = CASE WHEN goes_on THEN t.users_read_at ELSE clock_timestamp() END
        FROM current WHERE t.tenant_id = current.tenant_id RETURNING t.users_pages + 1 AS page, t.users_requested_at AS at
        """,
        {"tenant": tenant_id, "seconds": USERS_SECONDS},
        row=UsersCall,
    )


async def record_page(conn: Connection, tenant_id: str, call: UsersCall, page: UsersPage) -> None:
    """Records the users of one page. The last page removes those who were on none, unless the list changed between two pages,
    and queues the bills that waited for one of the users."""
    read_at = await end_call(conn, tenant_id, call)
    if read_at is None:
        return
    user_ids, emails = [user_id for user_id, _ in page.users], [email for _, email in page.users]
    await conn.execute(
        """
        INSERT INTO xero_users (tenant_id, user_id, email, read_at)
        SELECT DISTINCT ON (user_id) %(tenant)s, user_id, email, %(read_at)s
        FROM unnest(%(ids)s::text[], %(emails)s::text[]) u (user_id, email)
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET email = excluded.email, read_at = excluded.read_at
        """,
        {"tenant": tenant_id, "read_at": read_at, "ids": user_ids, "emails": emails},
    )
    await _finish_page(conn, tenant_id, call, page, read_at)


async def end_call(conn: Connection, tenant_id: str, call: UsersCall) -> datetime | None:
    """Records that the call has ended, so that another one may start at once: after a failure, for the same page. Returns when
    the current read began, or None if a later call has started since."""
    began: datetime | None = await conn.value(
        """
        UPDATE xero_tenants SET users_requested_at = '-infinity' WHERE tenant_id = %s AND users_requested_at = %s
        RETURNING users_read_at
        """,
        (tenant_id, call.at),
    )
    return began


async def _finish_page(conn: Connection, tenant_id: str, call: UsersCall, page: UsersPage, read_at: datetime) -> None:
    is_last = page.is_last or call.page >= MAX_PAGES
    total_before = await conn.value(
        """
        UPDATE xero_tenants t SET users_pages = CASE WHEN %(last)s THEN 0 ELSE %(page)s END,
            users_fetched_at = CASE WHEN %(last)s THEN users_read_at ELSE users_fetched_at END,
            users_total = CASE WHEN %(page)s = 1 THEN %(total)s ELSE users_total END
        WHERE tenant_id = %(tenant)s RETURNING users_total
        """,
        {"tenant": tenant_id, "page": call.page, "total": page.total, "last": is_last},
    )
    if not is_last:
        return
    read = await conn.value("SELECT count(*) FROM xero_users WHERE tenant_id = %s AND read_at = %s", (tenant_id, read_at))
    if page.is_last and page.total == total_before == read:
        await conn.execute("DELETE FROM xero_users WHERE tenant_id = %s AND read_at <> %s", (tenant_id, read_at))
    if await conn.maybe("SELECT 1 FROM time_bills WHERE xero_status = 'not_mapped' LIMIT 1") is not None:
        await outbox.enqueue(conn, QueueBills(because="mapped"))
