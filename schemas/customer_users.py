"""Users of a customer: who may see its data, invited by the firm or by one of the customer's own administrators.

An invitation is made in two transactions with the identity provider asked between them, since that may take seconds: the first
finds out what can be known before (`prepare`), the second writes it down (`settle`). Whoever is invited again after having been
removed is somebody new: tokens from before stay useless.

What an administrator of a customer must not learn is whether an address is known to Stint beyond that customer. An invitation
to such an address looks like any other to them, and stays for ever an invitation; only the mail says why.
"""

import unicodedata
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, Field

from schemas import customers, ledger, limits, mails, sign_in
from schemas.addresses import Email
from schemas.base import Body, Documented, Name, Row, Sql, json_object
from schemas.clients.identity import Person, Subject
from schemas.database import Connection
from schemas.errors import Conflict, Invalid, NotFound
from schemas.limits import Limit
from schemas.listing import Order, Page, Selection
from schemas.messages import RemindInvited, RemoveAccount
from schemas.settings import Settings
from schemas.users import User

# Each invitation is a mail to somebody who did not ask for it.
BY_ONE = Limit("invited-by", burst=50, seconds=60)
FOR_CUSTOMER = Limit("invited-for", burst=100, seconds=60)
TO_ADDRESS = Limit("invited-to", burst=5, seconds=600)
RESENT = Limit("invited-again", burst=1, seconds=60)


class CustomerUser(Row):
    """A user of a customer, as answered."""

    id: UUID
    customer_id: UUID
    email: str
    name: str
    role: Literal["customer_admin", "customer_user"]
    status: Annotated[
        Literal["invited", "active"],
        Field(description="active once they have come"),
        Sql("CASE WHEN {t}.joined_at IS NULL THEN 'invited' ELSE 'active' END"),
    ]
    invited_at: Annotated[datetime | None, Field(description="when they were last written to; null: nobody invited them")]
    joined_at: Annotated[datetime | None, Field(description="their first request")]
    created_at: datetime
    updated_at: datetime


# the same for the OpenAPI document, and something beside blanks
ON_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f\u2028\u2029][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


def _on_one_line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value):
        raise ValueError("send a name without line breaks and other control characters")
    return value


class Invitation(Body):
    """Whom to let in."""

    email: Email
    name: Annotated[Name, AfterValidator(_on_one_line), Documented("pattern", ON_ONE_LINE), Field(examples=["Jo Miller"])]
    role: Literal["customer_user", "customer_admin"] = "customer_user"


class InvitedBefore(Body):
    """Whom to write to again: one of the two."""

    user_id: UUID | None = None
    email: Annotated[Email | None, Field(examples=["jo@acme.example"])] = None


async def admit(conn: Connection, customer_id: UUID, user: User, *, hold: bool = False) -> str:
    """The customer's name, for those who may see to its users; with `hold` the customer is kept from being deleted until the
    transaction ends. Raises NotFound for another's customer as for one that is not there."""
    own = user.is_internal or user.customer_id == customer_id
    if hold and own:
        await customers.hold(conn, customer_id)
    cursor = await conn.execute("SELECT name FROM customers WHERE id = %s AND %s AND deleted_at IS NULL", (customer_id, own))
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    name: str = row[0]
    return name


async def list_page(conn: Connection, page: Page, *, customer_id: UUID, user: User) -> bytes:
    """The customer's users, those first who came last. Raises as `admit` does, Invalid for a cursor that is none of ours."""
    selection = Selection("user", CustomerUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.customer_id = %(customer)s AND {_ACTIVE}", customer=customer_id)
    answer = await selection.page(conn, page)
    await admit(conn, customer_id, user)
    return answer


_ACTIVE = "u.role IN ('customer_admin', 'customer_user') AND u.revoked_at IS NULL"


async def prepare(conn: Connection, customer_id: UUID, wanted: Invitation, *, by: User) -> Person:
    """Whom the provider is to give an account. Raises as `admit` does, Conflict for an address whose account `by` may know of,
    and TooMany."""
    await admit(conn, customer_id, by)
    await _refuse_known(conn, customer_id, wanted.email, by)
    await limits.take(conn, BY_ONE, str(by.id))
    await limits.take(conn, FOR_CUSTOMER, str(customer_id))
    await limits.take(conn, TO_ADDRESS, f"{customer_id}:{wanted.email.lower()}")
    return Person(wanted.email, wanted.name, wanted.role, customer_id)


async def settle(
    conn: Connection, customer_id: UUID, person: Person, subject: Subject | None, *, by: User, settings: Settings
) -> CustomerUser:
    """Writes the invitation down, and promises its mail. Without a subject the provider has the address under another account.
    Raises what `prepare` does, when it has become true meanwhile."""
    # two invitations of one address come one after another
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(lower(%s), 0))", (person.email,))
    customer = await admit(conn, customer_id, by, hold=True)
    is_known = await _refuse_known(conn, customer_id, person.email, by)
    elsewhere = subject is None or (is_known and not settings.people_are_outside)
    if subject is None and by.is_internal:
        raise Conflict(_HAS_ACCOUNT)
    cursor = await conn.execute(
        f"""
        INSERT INTO users AS u (id, email, name, role, customer_id, invited_at, account, elsewhere)
        VALUES (%s, %s, %s, %s, %s, now(), %s, %s)
        ON CONFLICT (id) DO UPDATE  -- they came with their token before the invitation was written down
        SET email = excluded.email, name = excluded.name, role = excluded.role, customer_id = excluded.customer_id,
            invited_at = excluded.invited_at, account = excluded.account
        WHERE u.revoked_at IS NULL
        RETURNING {json_object(CustomerUser, "u")}::text
        """.encode(),
        (
            subject.id if subject and not elsewhere else uuid4(), person.email, person.name, person.role, customer_id,
            subject.username if subject and not elsewhere else None, elsewhere,
        ),
    )  # fmt: skip
    if (row := await cursor.fetchone()) is None:
        raise Conflict("This user has just been removed; try again in a moment.")
    invited = CustomerUser.from_json(row[0])
    if elsewhere or not settings.people_are_outside:
        await _put_mail(conn, invited, customer, by, settings, elsewhere=elsewhere)
    return invited


_HAS_ACCOUNT = "This address belongs to another account already, and one address has one account; invite another address."


async def _refuse_known(conn: Connection, customer_id: UUID, email: str, by: User) -> bool:
    """Whether the address has an account that `by` must not hear of. Raises Conflict for one that they may."""
    cursor = await conn.execute(
        """
        SELECT coalesce(bool_or(customer_id = %s AND role IN ('customer_admin', 'customer_user')), false),
               coalesce(bool_or(NOT elsewhere), false)
        FROM users WHERE lower(email) = lower(%s) AND revoked_at IS NULL
        """,
        (customer_id, email),
    )
    row = await cursor.fetchone()
    assert row is not None
    is_here, is_known = row
    if is_here:
        raise Conflict("This address is a user of this customer already; POST …/users/resend-invite writes to them again.")
    if is_known and by.is_internal:
        raise Conflict(_HAS_ACCOUNT)
    return bool(is_known)


async def _put_mail(
    conn: Connection, invited: CustomerUser, customer: str, by: User, settings: Settings, *, elsewhere: bool
) -> None:
    facts = {"to": invited.email, "name": invited.name, "customer": customer, "inviter": by.name or by.email}
    if elsewhere:
        mail = mails.invitation_elsewhere(**facts)
    else:
        mail = mails.invitation(**facts, sign_in_url=settings.sign_in_url)
    await ledger.put(conn, mail, created_by=by.id)


async def resend(conn: Connection, customer_id: UUID, whom: InvitedBefore, *, by: User, settings: Settings) -> CustomerUser:
    """Promises another mail to somebody who has not come yet. Raises as `admit` does, NotFound for somebody who is no user of
    the customer, Conflict for one who has come, TooMany within a minute."""
    if (whom.user_id is None) == (whom.email is None):
        raise Invalid("", "Send userId or email, one of the two.")
    customer = await admit(conn, customer_id, by)
    cursor = await conn.execute(
        f"""
        UPDATE users u SET invited_at = CASE WHEN joined_at IS NULL THEN now() ELSE invited_at END
        WHERE customer_id = %s AND {_ACTIVE} AND (id = %s OR lower(email) = lower(%s))
        RETURNING elsewhere, {json_object(CustomerUser, "u")}::text
        """.encode(),
        (customer_id, whom.user_id, whom.email),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("This customer has no such user; GET …/users lists them.")
    elsewhere, user = row[0], CustomerUser.from_json(row[1])
    if user.status == "active":
        raise Conflict(f"{user.email} has come already, and needs no invitation.")
    await limits.take(conn, BY_ONE, str(by.id))
    await limits.take(conn, RESENT, str(user.id))
    if elsewhere or not settings.people_are_outside:
        await _put_mail(conn, user, customer, by, settings, elsewhere=elsewhere)
    else:
        await ledger.put(conn, RemindInvited(email=user.email), created_by=by.id)
    return user


async def remove(conn: Connection, customer_id: UUID, user_id: UUID, *, by: User, settings: Settings) -> None:
    """Takes the user's access away, from the next request on. Raises as `admit` does, and NotFound for somebody who is no user
    of the customer."""
    await admit(conn, customer_id, by)
    cursor = await conn.execute(
        f"""
        UPDATE users u SET revoked_at = now() WHERE id = %s AND customer_id = %s AND {_ACTIVE}
        RETURNING coalesce(account, id::text), elsewhere
        """.encode(),
        (user_id, customer_id),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("This customer has no such user; GET …/users lists them.")
    username, elsewhere = row
    await sign_in.forget(conn, user_id)
    if settings.people_are_outside and not elsewhere:
        await ledger.put(conn, RemoveAccount(username=username), created_by=by.id)
