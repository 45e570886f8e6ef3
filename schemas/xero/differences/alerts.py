"""Bills that a person has to look at in Xero: the mail to admins about them, and what `./stint doctor` says."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.identity import users
from schemas.mail import templates
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.next_step import EARLIER, ELSEWHERE, NO_USER
from schemas.xero.planning.steps import Done

PAUSE = "1 day"  # between two mails about the same kind of bills

# Bills that were mapped and wait all the same. Those without any mapping are not among them: a firm may have customers whose
# hours it does not want in Xero.
_NEEDS_A_PERSON = (ELSEWHERE, NO_USER, EARLIER)


@dataclass(frozen=True)
class WaitingBills:
    """Approved bills that wait for the same reason until a person acts. `error` is the bills' `xero.error`."""

    error: str
    count: int
    customers: list[str]  # the names of at most three of them


async def waiting_bills(conn: Connection) -> list[WaitingBills]:
    """The five most frequent reasons, the most frequent first."""
    return await conn.all(
        """
        SELECT b.xero_error AS error, count(*) AS count, (array_agg(DISTINCT c.name))[:3] AS customers
        FROM time_bills b JOIN customers c ON c.id = b.customer_id
        WHERE b.xero_status IN ('not_mapped', 'not_connected', 'withdrawing') AND b.deleted_at IS NULL
          AND EXISTS (SELECT FROM unnest(%s::text[]) AS reason WHERE strpos(b.xero_error, reason) > 0)
        GROUP BY b.xero_error ORDER BY count(*) DESC, b.xero_error LIMIT 5
        """,
        (list(_NEEDS_A_PERSON),),
        row=WaitingBills,
    )


async def tell_admins(conn: Connection, bill_id: UUID, done: Done, settings: Settings) -> None:
    """Mails each admin if the bill differs from its entry in Xero, or waits until a person acts; unless they got a mail about
    any bill of that kind within PAUSE. Locks the organisation's row, which is the last in the order of locks."""
    error = done.error or ""
    if done.status == "differs":
        told, template = "differs_told_at", templates.xero_differs
    elif done.status in ("not_mapped", "not_connected", "withdrawing") and any(reason in error for reason in _NEEDS_A_PERSON):
        told, template = "waits_told_at", templates.xero_waits
    else:
        return
    found = await conn.maybe(
        f"""
        UPDATE xero_tenants t SET {told} = clock_timestamp() FROM xero_connection x
        WHERE t.tenant_id = x.tenant_id AND ({told} IS NULL OR {told} < clock_timestamp() - interval '{PAUSE}')
        RETURNING coalesce(x.tenant_name, 'Xero')
        """
    )
    if found is None:
        return
    user, customer, day = await conn.one(
        """
        SELECT u.name, c.name, b.date
        FROM time_bills b JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id WHERE b.id = %s
        """,
        (bill_id,),
    )
    about: dict[str, Any] = {
        "organisation": found[0],
        "bill": f"{user} for {customer} on {day:%Y-%m-%d}",
        "error": error,
        "url": f"{settings.sign_in_url.rstrip('/')}/xero",
    }
    await outbox.enqueue_many(conn, [template(to=email, **about) for email in await users.admin_emails(conn)])
