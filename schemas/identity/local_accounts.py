"""The accounts of the local identity provider: the rows of `users`, which commands and invitations write. A token does not
change them: it only names its user."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from schemas.identity import signing_keys, users
from schemas.identity.signing_keys import Claims
from schemas.identity.users import LocalUser
from schemas.postgres.connection import Connection
from schemas.settings import Settings


@dataclass(frozen=True)
class NewAccount:
    """An account to create. `role` None: neither a role nor a customer was ever named, so the user may be a legacy admin."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None = None


class AccountRemoved(Exception):
    """The account was removed and has to be added again first."""


async def find(conn: Connection, email: str) -> LocalUser | None:
    """The user with that address, or None. Takes a lock, so that of two commands for a new address only one creates it."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(email_key(%s), 0))", (email,))
    return next(iter(await users.list_local_users(conn, email)), None)


async def create(conn: Connection, new: NewAccount) -> LocalUser:
    """A new account."""
    user_id = uuid4()
    await conn.execute(
        """
        INSERT INTO users (id, email, name, role, customer_id, claims_at) VALUES (%s, %s, %s, %s, %s, clock_timestamp())
        """,
        (user_id, new.email, new.name, new.role, new.customer_id),
    )
    return LocalUser(
        id=user_id, email=new.email, name=new.name, role=new.role, customer_id=new.customer_id, revoked=False
    )  # fmt: skip


async def change(
    conn: Connection, account: LocalUser, *, name: str | None = None, role: str, customer_id: UUID | None = None
) -> None:
    """Sets name (None: unchanged), role and customer of the account, and restores its access. Tokens that were issued before
    follow a new role; they are refused if the user was removed, or belongs to the firm or to another customer now."""
    await conn.execute(
        """
        UPDATE users SET name = coalesce(%s, name), role = %s, customer_id = %s, revoked_at = NULL, disabled_in_pool = false,
            claims_at = clock_timestamp()
        WHERE id = %s
        """,
        (name, role, customer_id, account.id),
    )
    conn.access_changed_before = True  # perhaps the account was like that already


async def remove(conn: Connection, user_id: UUID) -> None:
    """Revokes the user's access, from the next request on."""
    await conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL", (user_id,))
    conn.access_changed_before = True  # perhaps it was revoked already
    from schemas.identity import sign_in_codes  # it imports the mails and all messages, which no other command needs

    await sign_in_codes.delete_codes(conn, user_id)


async def issue_token(conn: Connection, new: NewAccount, settings: Settings) -> str:
    """A token for the user with that address, who is created if there is none. The role and the customer that are named become
    those of the account; without a role the account stays as it is. Raises AccountRemoved."""
    account = await find(conn, new.email)
    if account is None:
        account = await create(conn, new)
    elif account.revoked:
        raise AccountRemoved(f"{new.email} was removed; ./stint user add {new.email} gives them access again.")
    elif new.role is not None and (account.role, account.customer_id) != (new.role, new.customer_id):
        await change(conn, account, role=new.role, customer_id=new.customer_id)
    return await signing_keys.sign(
        conn, Claims(account.id, account.email, account.name, new.role, new.customer_id), settings=settings
    )
