"""Signing in at the local identity provider, by a code that comes by mail.

Asking for a code looks the same for an address that nobody has: the message is put all the same, and its actor finds nobody to
write to. Of a code only a hash is kept, keyed with SECRET_KEY, since all six-digit numbers are quickly tried. Wrong tries count
on all codes of a person that are still good, so that asking for more of them buys no more tries.
"""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas import keys, ledger, limits, mails, users
from schemas.addresses import Email
from schemas.base import Body, Row
from schemas.billing import lock_user
from schemas.database import Connection
from schemas.keys import Claims
from schemas.limits import Limit
from schemas.messages import SendCode, SendMail
from schemas.sealing import secret_keys
from schemas.settings import Settings
from schemas.users import Account

MINUTES = 10  # that a code is good for
TRIES = 5
DIGITS = 6

# Codes asked for, and tries at them: by address of mail, by address on the network, and for codes in all, since each is a mail.
CODES_FOR = Limit("code-for", burst=5, seconds=300)
CODES_FROM = Limit("code-from", burst=30, seconds=20)
CODES_IN_ALL = Limit("codes", burst=300, seconds=1)
TRIES_FOR = Limit("try-for", burst=15, seconds=600)
TRIES_FROM = Limit("try-from", burst=60, seconds=5)


class CodeWanted(Body):
    """Who wants to sign in."""

    email: Email


class CodeOnItsWay(Row):
    """The answer whoever asked, whether anybody has the address or not."""

    detail: str = f"If this address has an account, a code is on its way to it; it works once, within {MINUTES} minutes."
    expires_in: Annotated[int, Field(description="seconds that the code is good for")] = MINUTES * 60


class CodeTyped(Body):
    """The code that came by mail."""

    email: Email
    code: Annotated[str, Field(max_length=20, examples=["290174"], description="spaces do not matter")]


class SignedIn(Row):
    """An ID token, to be sent as `Authorization: Bearer …`."""

    id_token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's name
    expires_in: Annotated[int, Field(description="seconds")] = keys.TOKEN_SECONDS


async def ask(conn: Connection, email: str, *, client: str) -> None:
    """Promises a code to whoever has that address. Raises TooMany."""
    await limits.take(conn, CODES_FROM, client)
    await limits.take(conn, CODES_FOR, email.lower())
    await limits.take(conn, CODES_IN_ALL)
    await ledger.put(conn, SendCode(email=email, asked_at=datetime.now(UTC)))


async def issue(conn: Connection, asked: SendCode, *, secret_key: str) -> SendMail | None:
    """A new code for whoever has the address, in a mail to them. None when nobody has it, or may not come in, and for a code
    that would be too old before it is read."""
    if (datetime.now(UTC) - asked.asked_at).total_seconds() > MINUTES * 60:
        return None
    account = await _who(conn, asked.email)
    if account is None:
        return None
    await lock_user(conn, account.id)
    code_id, code = uuid4(), f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
    await conn.execute(
        """
        INSERT INTO sign_in_codes (id, user_id, code_hash, expires_at)
        VALUES (%s, %s, %s, clock_timestamp() + make_interval(mins => %s))
        """,
        (code_id, account.id, _hash(code_id, code, secret_key), MINUTES),
    )
    return mails.code(to=account.email, code=code, minutes=MINUTES)


async def enter(conn: Connection, typed: CodeTyped, *, client: str, settings: Settings) -> SignedIn | None:
    """An ID token for the right code, which is thereby used up. None for a wrong one, whatever is wrong with it; the caller
    commits, so that the try counts. Raises TooMany."""
    await limits.take(conn, TRIES_FROM, client)
    await limits.take(conn, TRIES_FOR, typed.email.lower())
    account = await _who(conn, typed.email)
    secret_key = settings.secret_key.get_secret_value()
    # for an address that nobody has the same is done, for a user who is not there: neither answer nor time tells them apart
    is_right = await _use_up(conn, account.id if account else uuid4(), typed.code.replace(" ", ""), secret_key)
    if account is None or not is_right:
        return None
    token = await keys.sign(
        conn,
        Claims(account.id, account.email, account.name, account.role, account.customer_id),
        secret_key=secret_key,
        issuer=settings.auth_issuer,
        client_id=settings.own_client_id,
    )
    return SignedIn(id_token=token)


async def _who(conn: Connection, email: str) -> Account | None:
    """The account with that address that may sign in."""
    accounts = await users.accounts(conn, email)
    return next((account for account in accounts if not account.revoked and users.role_of(account.role)), None)


async def _use_up(conn: Connection, user_id: UUID, code: str, secret_key: str) -> bool:
    """Whether this is one of the user's codes; if so they are all used up, else it has cost each of them a try."""
    await lock_user(conn, user_id)  # tries at the same moment come one after another
    cursor = await conn.execute(
        "SELECT id, code_hash FROM sign_in_codes WHERE user_id = %s AND tries < %s AND expires_at > clock_timestamp()",
        (user_id, TRIES),
    )
    good = [code_id for code_id, kept in await cursor.fetchall() if _is(kept, code_id, code, secret_key)]
    if good:
        await forget(conn, user_id)
    else:
        await conn.execute("UPDATE sign_in_codes SET tries = tries + 1 WHERE user_id = %s AND tries < %s", (user_id, TRIES))
    return bool(good)


async def forget(conn: Connection, user_id: UUID) -> None:
    """Makes all codes of that user useless."""
    await conn.execute("DELETE FROM sign_in_codes WHERE user_id = %s", (user_id,))


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets codes that have expired, some at a time."""
    await conn.execute(
        """
        DELETE FROM sign_in_codes WHERE id IN (
            SELECT id FROM sign_in_codes WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT %s
            FOR UPDATE SKIP LOCKED)
        """,
        (rows,),
    )


def _hash(code_id: UUID, code: str, secret_key: str) -> bytes:
    return hmac.digest(secret_keys(secret_key)[0].encode(), code_id.bytes + code.encode(), hashlib.sha256)


def _is(kept: bytes, code_id: UUID, code: str, secret_key: str) -> bool:
    """Whether that code is kept, under whichever of the secret keys."""
    return any(hmac.compare_digest(kept, _hash(code_id, code, key)) for key in secret_keys(secret_key))
