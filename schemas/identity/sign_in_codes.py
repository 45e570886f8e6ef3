"""Sign-in by a code in a mail, at the local identity provider.

A client cannot find out whether an address has an account: the answer to a request for a code is the same, and takes the same
time. The request stores a message in both cases. For an unknown address, this message is done already.

No client can use up a limit of other clients: each limit is of one client, or of one client and one address. A code counts the
wrong tries of the client that has requested it apart from those of all others. docs/decisions/0025 has the arithmetic.

Only a hash of the code is stored, keyed with SECRET_KEY, because all six-digit numbers can be tried quickly. A wrong code
counts as a try of all valid codes of the user. So a client that requests more codes has no more tries.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas import rate_limits
from schemas.base import Body, Row
from schemas.email_addresses import Email, email_key
from schemas.encryption import secret_keys
from schemas.identity import signing_keys, users
from schemas.identity.signing_keys import Claims
from schemas.identity.users import LocalUser, lock_user
from schemas.mail import templates
from schemas.messages import SendCode, SendMail
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.rate_limits import Limit
from schemas.settings import Settings

CODE_MINUTES = 10
DIGITS, MANY_DIGITS = 6, 9
# Wrong tries with one code: with its id, from the network of the client that asked for it, and from elsewhere.
MAX_TRIES = 5
MAX_TRIES_ELSEWHERE = 3

# Requests for codes and tries: of one client, and of one client for one address.
CODES_PER_CLIENT = Limit("code-from", burst=30, seconds=20)
CODES_PER_CLIENT_AND_EMAIL = Limit("code-from-for", burst=5, seconds=300)
# The same for an IPv6 /48: who has one has 65,536 networks of /64. Ten times as much, because customers of one provider may be
# neighbours in a /48.
CODES_PER_SITE = Limit("code-from-site", burst=300, seconds=2)
CODES_PER_SITE_AND_EMAIL = Limit("code-from-site-for", burst=50, seconds=30)
TRIES_PER_CLIENT = Limit("try-from", burst=60, seconds=5)
TRIES_PER_CLIENT_AND_EMAIL = Limit("try-from-for", burst=15, seconds=600)
# Refuses nothing: a user for whom more codes are asked, which takes many clients, gets longer ones. So guesses do not add up.
SHORT_CODES_PER_USER = Limit("short-codes-for", burst=100, seconds=1800)


class CodeRequest(Body):
    """The address that wants to sign in."""

    email: Email


class CodeSent(Row):
    """The answer to each request for a code, whether the address has an account or not."""

    detail: str = (
        f"If this address has an account, we have sent a code to it. The code works once, within {CODE_MINUTES} minutes."
    )
    expires_in: Annotated[int, Field(description="seconds that the code is valid for")] = CODE_MINUTES * 60
    code_id: Annotated[UUID, Field(description="send it with the code: the tries of other clients do not count for you then")]


class CodeSubmission(Body):
    """The code from the mail."""

    email: Email
    code: Annotated[str, Field(max_length=20, examples=["290174"], description="spaces are ignored")]
    code_id: Annotated[UUID | None, Field(description="the `codeId` of the answer to the request for the code")] = None


class SignedIn(Row):
    """An ID token, to be sent as `Authorization: Bearer …`."""

    id_token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's name
    expires_in: Annotated[int, Field(description="seconds")] = signing_keys.TOKEN_SECONDS


async def request_code(conn: Connection, email: str, *, client: str) -> UUID:
    """Enqueues the message that creates and sends a code, and returns the id of the code. Raises RateLimited.

    For an unknown address the message is stored as done, so no worker handles it.
    """
    await rate_limits.consume(conn, CODES_PER_CLIENT, client)
    await rate_limits.consume(conn, CODES_PER_CLIENT_AND_EMAIL, f"{client}:{email_key(email)}")
    if (site := rate_limits.site_of(client)) is not None:
        await rate_limits.consume(conn, CODES_PER_SITE, site)
        await rate_limits.consume(conn, CODES_PER_SITE_AND_EMAIL, f"{site}:{email_key(email)}")
    code_id = uuid4()
    asked_at = await conn.value("SELECT clock_timestamp()")  # the API's clock may differ from the worker's
    message = SendCode(email=email, asked_at=asked_at, code_id=code_id, client=client)
    await outbox.enqueue(conn, message, done=await _find_user(conn, email) is None)
    return code_id


async def issue_code(conn: Connection, request: SendCode, *, secret_key: str) -> SendMail | None:
    """The mail with a new code for the user of that address. None: no mail is to be sent, because

    - no user with that address may sign in; or
    - the request is so old that a code would be of no use; or
    - the client has a valid code already, while very many codes are requested.
    """
    if await conn.value("SELECT clock_timestamp() > %s + make_interval(mins => %s)", (request.asked_at, CODE_MINUTES)):
        return None
    user = await _find_user(conn, request.email)
    if user is None or not await lock_user(conn, user.id):
        return None
    user = await _find_user(conn, request.email)  # again under the lock: a removed user must not get a code
    if user is None:
        return None
    digits = DIGITS
    if not await rate_limits.try_consume(conn, SHORT_CODES_PER_USER, str(user.id)):
        digits = MANY_DIGITS
        if await _has_another_code(conn, user.id, request):
            return None
    code_id, code = request.code_id or uuid4(), f"{secrets.randbelow(10**digits):0{digits}}"
    await conn.execute(
        """
        INSERT INTO sign_in_codes (id, user_id, code_hash, client, expires_at)
        VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(mins => %s))
        ON CONFLICT (id) DO UPDATE SET code_hash = excluded.code_hash, expires_at = excluded.expires_at
        """,
        (code_id, user.id, _hash(code_id, code, secret_key), request.client, CODE_MINUTES),
    )
    return templates.code(to=user.email, code=code, minutes=CODE_MINUTES)


async def verify_code(conn: Connection, submission: CodeSubmission, *, client: str, settings: Settings) -> SignedIn | None:
    """An ID token for a valid code, which cannot be used again. Raises RateLimited.

    None: the code is not valid. The caller has to commit then, too, so that the try counts.
    """
    user = await use_code(conn, submission, client=client, settings=settings)
    if user is None:
        return None
    claims = Claims(user.id, user.email, user.name, user.role, user.customer_id)
    token = await signing_keys.sign(conn, claims, settings=settings)
    return SignedIn(id_token=token)


async def use_code(conn: Connection, submission: CodeSubmission, *, client: str, settings: Settings) -> LocalUser | None:
    """The user of a valid code, which cannot be used again. Raises RateLimited.

    None: the code is not valid. The caller has to commit then, too, so that the try counts.
    """
    await rate_limits.consume(conn, TRIES_PER_CLIENT, client)
    await rate_limits.consume(conn, TRIES_PER_CLIENT_AND_EMAIL, f"{client}:{email_key(submission.email)}")
    user = await _find_user(conn, submission.email)
    secret_key = settings.secret_key.get_secret_value()
    # An address without a user runs the same statements with a random id: neither the answer nor its time shows the difference.
    attempt = _Attempt(user.id if user else uuid4(), submission.code.replace(" ", ""), submission.code_id, client)
    is_valid = await _consume(conn, attempt, secret_key)
    return user if is_valid else None


async def _find_user(conn: Connection, email: str) -> LocalUser | None:
    """The user with that address who may sign in."""
    found = await users.list_local_users(conn, email)
    return next((user for user in found if not user.revoked and users.parse_role(user.role)), None)


async def _has_another_code(conn: Connection, user_id: UUID, request: SendCode) -> bool:
    found = await conn.maybe(
        """
        SELECT 1 FROM sign_in_codes
        WHERE user_id = %s AND client = %s AND id IS DISTINCT FROM %s AND expires_at > clock_timestamp() LIMIT 1
        """,
        (user_id, request.client, request.code_id),
    )
    return found is not None


@dataclass(frozen=True)
class _Attempt:
    """One try to sign in. `code_id`: of the request for a code, if the client sends it."""

    user_id: UUID
    code: str
    code_id: UUID | None
    client: str


# How many wrong tries a code has had of the kind that this attempt is. A code of version 0.2.0 has no client: anybody's is its.
_TRIES = """
    CASE WHEN id = %(code_id)s THEN tries WHEN coalesce(client, %(client)s) = %(client)s THEN client_tries
         ELSE %(max)s - %(max_elsewhere)s + tries_elsewhere END
"""


async def _consume(conn: Connection, attempt: _Attempt, secret_key: str) -> bool:
    """Whether this is a valid code of the user. If so, deletes all codes of the user. If not, counts a try of each of them."""
    await lock_user(conn, attempt.user_id)  # serializes concurrent tries
    parameters = {
        "user": attempt.user_id, "code_id": attempt.code_id, "client": attempt.client,
        "max": MAX_TRIES, "max_elsewhere": MAX_TRIES_ELSEWHERE,
    }  # fmt: skip
    valid = await conn.all(
        f"""
        SELECT id, code_hash FROM sign_in_codes
        WHERE user_id = %(user)s AND {_TRIES} < %(max)s AND expires_at > clock_timestamp()
        """,
        parameters,
    )
    if any(_matches(code_hash, code_id, attempt.code, secret_key) for code_id, code_hash in valid):
        await delete_codes(conn, attempt.user_id)
        return True
    await conn.execute(
        f"""
        UPDATE sign_in_codes
        SET tries = tries + (id IS NOT DISTINCT FROM %(code_id)s)::int,
            client_tries = client_tries
                + (id IS DISTINCT FROM %(code_id)s AND coalesce(client, %(client)s) = %(client)s)::int,
            tries_elsewhere = tries_elsewhere
                + (id IS DISTINCT FROM %(code_id)s AND coalesce(client, %(client)s) <> %(client)s)::int
        WHERE user_id = %(user)s AND {_TRIES} < %(max)s
        """,
        parameters,
    )
    return False


async def delete_codes(conn: Connection, user_id: UUID) -> None:
    """Deletes all codes of the user."""
    await conn.execute("DELETE FROM sign_in_codes WHERE user_id = %s", (user_id,))


def _hash(code_id: UUID, code: str, secret_key: str) -> bytes:
    return hmac.digest(secret_keys(secret_key)[0].encode(), code_id.bytes + code.encode(), hashlib.sha256)


def _matches(code_hash: bytes, code_id: UUID, code: str, secret_key: str) -> bool:
    """Whether the hash is that of the code, under any key of SECRET_KEY."""
    return any(hmac.compare_digest(code_hash, _hash(code_id, code, key)) for key in secret_keys(secret_key))
