"""Users of a customer, who may see its data. The firm invites them, or an administrator of that customer does.

An invitation takes two transactions with a call to the identity provider between them, because that call may take seconds:
`prepare` checks it, `record_invitation` stores it. A removed user who is invited again becomes a new user: old tokens stay
invalid.

An administrator of a customer must not learn whether Stint knows an address that is not a user of that customer. So an
invitation to an address with another account looks like any other, but its row (`account_elsewhere`) can never sign in. Only
the mail to the address says why.
"""

import unicodedata
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import BeforeValidator, Field

from schemas import rate_limits
from schemas.base import Body, Name, Row, SchemaKeyword, Sql, json_object
from schemas.customers import customers
from schemas.email_addresses import Email, email_key
from schemas.errors import Conflict, Invalid, NotFound
from schemas.identity import sign_in_codes
from schemas.identity.accounts import Account, Profile
from schemas.identity.current_user import UserId
from schemas.identity.users import User
from schemas.mail import templates
from schemas.messages import RemindInvited, RemoveAccount
from schemas.names import HAS_VISIBLE
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.rate_limits import Limit
from schemas.settings import Settings

# Each invitation is a mail that its recipient did not ask for.
PER_INVITER = Limit("invited-by", burst=50, seconds=60)
PER_CUSTOMER = Limit("invited-for", burst=100, seconds=60)
PER_ADDRESS = Limit("invited-to", burst=5, seconds=600)
RESENT_TO_USER = Limit("invited-again", burst=1, seconds=60)


class CustomerUser(Row):
    """A user of a customer, as the API returns it."""

    id: UUID
    customer_id: UUID
    email: str
    name: str
    role: Literal["customer_admin", "customer_user"]
    status: Annotated[
        Literal["invited", "active"],
        Field(description="active after the first request"),
        Sql("CASE WHEN {t}.joined_at IS NULL THEN 'invited' ELSE 'active' END"),
    ]
    invited_at: Annotated[datetime | None, Field(description="when the last invitation was sent; null without an invitation")]
    joined_at: Annotated[datetime | None, Field(description="the first request of the user")]
    created_at: datetime
    updated_at: datetime


# the same rule for the OpenAPI document; in addition at least one character that can be seen
_NO_CONTROLS = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*"
ON_ONE_LINE = f"^{_NO_CONTROLS}{HAS_VISIBLE}{_NO_CONTROLS}$"


def _on_one_line(value: object) -> object:
    if isinstance(value, str) and any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value):
        raise ValueError("send a name without line breaks and other control characters")
    return value


PersonName = Annotated[
    Name, BeforeValidator(_on_one_line), SchemaKeyword("pattern", ON_ONE_LINE), Field(examples=["Jo Miller"])
]


class Invitation(Body):
    """The person to invite."""

    email: Email
    name: PersonName
    role: Literal["customer_user", "customer_admin"] = "customer_user"


class ResendInvitation(Body):
    """The user to send the invitation to again: one of the two fields."""

    user_id: UserId | None = None
    email: Annotated[Email | None, Field(examples=["jo@acme.example"])] = None


async def authorize_customer(conn: Connection, customer_id: UUID, user: User, *, lock: bool = False) -> str:
    """The customer's name, if `user` belongs to the firm or to that customer; else raises NotFound, as for an unknown customer.
    With `lock` the customer cannot be deleted until the transaction ends."""
    may_see = user.is_internal or user.customer_id == customer_id
    if lock and may_see:
        await customers.lock_shared(conn, customer_id)
    name: str | None = await conn.value(
        "SELECT name FROM customers WHERE id = %s AND %s AND deleted_at IS NULL", (customer_id, may_see)
    )
    if name is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    return name


async def list_page(conn: Connection, page: Page, *, customer_id: UUID, user: User) -> bytes:
    """The customer's users, newest first. Raises as `authorize_customer` does, and Invalid for an unknown cursor."""
    selection = Selection("user", CustomerUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.customer_id = %(customer)s AND {_HAS_ACCESS}", customer=customer_id)
    answer = await selection.page(conn, page)
    await authorize_customer(conn, customer_id, user)
    return answer


_HAS_ACCESS = "u.role IN ('customer_admin', 'customer_user') AND u.revoked_at IS NULL"


async def prepare(conn: Connection, customer_id: UUID, body: Invitation, *, by: User) -> Profile:
    """Checks an invitation and returns the profile of the account to create at the provider. Raises as `authorize_customer`
    does, Conflict for an address with an account that `by` may know of, and RateLimited."""
    await authorize_customer(conn, customer_id, by)
    await _has_hidden_account(conn, customer_id, body.email, by)
    await rate_limits.consume(conn, PER_INVITER, str(by.id))
    await rate_limits.consume(conn, PER_CUSTOMER, str(customer_id))
    await rate_limits.consume(conn, PER_ADDRESS, f"{customer_id}:{email_key(body.email)}")
    return Profile(body.email, body.name, body.role, customer_id)


async def record_invitation(
    conn: Connection, customer_id: UUID, profile: Profile, account: Account | None, *, by: User, settings: Settings
) -> CustomerUser:
    """Stores the invitation, and enqueues its mail. `account` is None if the address has another account at the provider.
    Raises as `prepare` does, because the facts may have changed since."""
    # serializes concurrent invitations of one address
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(email_key(%s), 0))", (profile.email,))
    customer = await authorize_customer(conn, customer_id, by, lock=True)
    has_hidden_account = await _has_hidden_account(conn, customer_id, profile.email, by)
    if account is None and by.is_internal:
        raise Conflict(_HAS_ACCOUNT)
    if has_hidden_account and not settings.uses_external_identity:
        account = None
    row = await conn.value(
        f"""
        INSERT INTO users AS u
            (id, email, name, role, customer_id, invited_at, claims_at, provider_username, account_elsewhere)
        VALUES (%s, %s, %s, %s, %s, now(), now(), %s, %s)
        ON CONFLICT (id) DO UPDATE  -- the user has made a request before the invitation was recorded
        SET email = excluded.email, name = excluded.name, role = excluded.role, customer_id = excluded.customer_id,
            invited_at = excluded.invited_at, claims_at = excluded.claims_at, provider_username = excluded.provider_username
        WHERE u.revoked_at IS NULL
        RETURNING {json_object(CustomerUser, "u")}::text
        """,
        (
            account.id if account else uuid4(), profile.email, profile.name, profile.role, customer_id,
            account.username if account else None, account is None,
        ),
    )  # fmt: skip
    if row is None:
        raise Conflict("This user has just been removed; try again in a moment.")
    invited = CustomerUser.from_json(row)
    if account is None or not settings.uses_external_identity:
        await _enqueue_mail(conn, invited, customer, by, settings, account_elsewhere=account is None)
    return invited


_HAS_ACCOUNT = "This address already has another account, and can have only one; invite another address."


async def _has_hidden_account(conn: Connection, customer_id: UUID, email: str, by: User) -> bool:
    """Whether the address has an account that `by` must not learn of. Raises Conflict for one that `by` may know of."""
    is_user, has_account = await conn.one(
        """
        SELECT coalesce(bool_or(customer_id = %s AND role IN ('customer_admin', 'customer_user')), false),
               coalesce(bool_or(NOT account_elsewhere), false)
        FROM users WHERE email_key(email) = email_key(%s) AND revoked_at IS NULL
        """,
        (customer_id, email),
    )
    if is_user:
        raise Conflict("This address is a user of this customer already; POST …/users/resend-invite sends the mail again.")
    if has_account and by.is_internal:
        raise Conflict(_HAS_ACCOUNT)
    return bool(has_account)


async def _enqueue_mail(
    conn: Connection, invited: CustomerUser, customer: str, by: User, settings: Settings, *, account_elsewhere: bool
) -> None:
    facts = {"to": invited.email, "name": invited.name, "customer": customer, "inviter": by.name or by.email}
    if account_elsewhere:
        mail = templates.invitation_to_other_account(**facts)
    else:
        mail = templates.invitation(**facts, sign_in_url=settings.sign_in_url)
    await outbox.enqueue(conn, mail, created_by=by.id)


async def resend(conn: Connection, customer_id: UUID, body: ResendInvitation, *, by: User, settings: Settings) -> CustomerUser:
    """Enqueues the mail of an invitation again. Raises as `authorize_customer` does, NotFound for an unknown user, Conflict for
    a user who has signed in, and RateLimited within a minute."""
    if (body.user_id is None) == (body.email is None):
        raise Invalid("", "Send userId or email, one of the two.")
    customer = await authorize_customer(conn, customer_id, by)
    found = await conn.maybe(
        f"""
        UPDATE users u SET invited_at = CASE WHEN joined_at IS NULL THEN now() ELSE invited_at END
        WHERE customer_id = %s AND {_HAS_ACCESS} AND (id = %s OR email_key(email) = email_key(%s))
        RETURNING account_elsewhere, {json_object(CustomerUser, "u")}::text
        """,
        (customer_id, body.user_id, body.email),
    )
    if found is None:
        raise NotFound("This customer has no such user; GET …/users lists them.")
    account_elsewhere, user = found[0], CustomerUser.from_json(found[1])
    if user.status == "active":
        raise Conflict(f"{user.email} has already signed in, and needs no invitation.")
    await rate_limits.consume(conn, PER_INVITER, str(by.id))
    await rate_limits.consume(conn, RESENT_TO_USER, str(user.id))
    if account_elsewhere or not settings.uses_external_identity:
        await _enqueue_mail(conn, user, customer, by, settings, account_elsewhere=account_elsewhere)
    else:
        await outbox.enqueue(conn, RemindInvited(email=user.email), created_by=by.id)
    return user


async def remove(conn: Connection, customer_id: UUID, user_id: UUID, *, by: User, settings: Settings) -> None:
    """Revokes the user's access, from the next request on. Raises as `authorize_customer` does, and NotFound for an unknown
    user."""
    try:
        await authorize_customer(conn, customer_id, by)
        found = await conn.maybe(
            f"""
            UPDATE users u SET revoked_at = now() WHERE id = %s AND customer_id = %s AND {_HAS_ACCESS}
            RETURNING coalesce(provider_username, id::text), account_elsewhere
            """,
            (user_id, customer_id),
        )
        if found is None:
            raise NotFound("This customer has no such user; GET …/users lists them.")
    except NotFound:
        if by.is_internal or by.customer_id == customer_id:
            removed = "SELECT 1 FROM users WHERE id = %s AND customer_id = %s AND revoked_at IS NOT NULL"
            conn.access_changed_before = await conn.maybe(removed, (user_id, customer_id)) is not None
        raise
    username, account_elsewhere = found
    await sign_in_codes.delete_codes(conn, user_id)
    if settings.uses_external_identity and not account_elsewhere:
        await outbox.enqueue(conn, RemoveAccount(username=username), created_by=by.id)
