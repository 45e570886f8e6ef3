"""What is stored of lost access: since when and why, when Stint tries again, and that it is there again.

- Access is there: `needs_reconnect_at` and `access_suspected_at` are null.
- Suspected: a call was refused. A CheckAccess message finds out why, and no other call starts meanwhile.
- Lost: `needs_reconnect_at` is set. All bills wait, and CheckAccess tries again at growing intervals.
"""

from schemas.identity import users
from schemas.mail import templates
from schemas.messages import CheckAccess, QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.access import problems
from schemas.xero.access.problems import AccessProblem

LONGEST = 15  # the longest interval between two checks, as a multiple of STINT_XERO_ACCESS_SECONDS


async def why_lost(conn: Connection) -> str | None:
    """Why Xero gives no access to the connected organisation, and what to do. None: it does, or none is connected."""
    row = await conn.maybe(
        "SELECT access_problem, tenant_name FROM xero_connection WHERE tenant_id IS NOT NULL AND needs_reconnect_at IS NOT NULL"
    )
    return None if row is None else problems.sentence(*row)


async def mark_lost(conn: Connection, problem: AccessProblem, settings: Settings) -> None:
    """Records that Xero gives no access, and enqueues the next check, unless only a person can help. Each admin gets one mail
    about each problem. The connection must be locked."""
    retries = problem is not AccessProblem.revoked
    earlier, organisation, seconds = await conn.one(
        """
        UPDATE xero_connection x
        SET needs_reconnect_at = coalesce(x.needs_reconnect_at, clock_timestamp()), access_problem = %(problem)s,
            access_suspected_at = NULL, access_check_at = NULL, access_check_id = NULL
        FROM xero_connection before WHERE before.id = x.id
        RETURNING CASE WHEN before.needs_reconnect_at IS NOT NULL THEN coalesce(before.access_problem, 'revoked') END,
                  x.tenant_name, extract(epoch FROM clock_timestamp() - x.needs_reconnect_at)::float
        """,
        {"problem": problem},
    )
    if retries:  # as long again as access has been lost
        shortest = settings.stint_xero_access_seconds
        await enqueue_check(conn, seconds=min(LONGEST * shortest, max(shortest, seconds)))
    if earlier == problem:
        return
    await _tell_admins(conn, problem, organisation, settings)
    if earlier is not None:  # the bills that wait show the earlier problem
        await outbox.enqueue(conn, QueueBills(because="connected"))


async def mark_found(conn: Connection) -> None:
    """Records that Stint has access, and if it was lost, enqueues the messages that send what waited. The connection must be
    locked FOR UPDATE: a bill that finds access lost shows that before those messages look for it."""
    was_lost = await conn.value("SELECT needs_reconnect_at IS NOT NULL FROM xero_connection")
    await conn.execute(
        """
        UPDATE xero_connection
        SET needs_reconnect_at = NULL, access_problem = NULL, access_suspected_at = NULL, access_found_at = clock_timestamp(),
            access_check_at = NULL, access_check_id = NULL
        """
    )
    if was_lost:
        await outbox.enqueue_many(conn, [QueueBills(because="connected"), QueueBills(because="access")])


async def enqueue_check(conn: Connection, *, seconds: float) -> None:
    """Enqueues the check of access. An earlier one that has not run does nothing any more. The connection must be locked."""
    at = await conn.value("SELECT clock_timestamp() + make_interval(secs => %s)", (seconds,))
    message_id = await outbox.enqueue(conn, CheckAccess(), available_at=at if seconds else None)
    await conn.execute("UPDATE xero_connection SET access_check_id = %s, access_check_at = %s", (message_id, at))


async def ensure_checked(conn: Connection) -> None:
    """Enqueues the check of access if one is due sooner or later, and there is none: its message is dead, for example. Safe to
    call concurrently."""
    check_is_missing = """
        SELECT 1 FROM xero_connection x LEFT JOIN messages m ON m.id = x.access_check_id
        WHERE x.tenant_id IS NOT NULL AND x.access_check_at IS NOT NULL
          AND (m.id IS NULL OR m.state IN ('done', 'dead', 'discarded'))
    """
    if await conn.maybe(check_is_missing) is None:
        return
    async with conn.transaction():
        await conn.execute("SELECT 1 FROM xero_connection FOR NO KEY UPDATE")
        if await conn.maybe(check_is_missing) is not None:
            await enqueue_check(conn, seconds=0)


async def _tell_admins(conn: Connection, problem: AccessProblem, organisation: str | None, settings: Settings) -> None:
    words = problems.words(problem, organisation)
    mails = [
        templates.xero_access_lost(
            to=email,
            organisation=organisation or "Xero",
            problem=words.text,
            cure=words.cure,
            reconnect=words.needs_reconnect,
            url=f"{settings.sign_in_url.rstrip('/')}/xero",
        )
        for email in await users.admin_emails(conn)
    ]
    await outbox.enqueue_many(conn, mails)
