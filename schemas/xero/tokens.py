"""The OAuth tokens for Xero: encrypted in Postgres, renewed by one transaction at a time, committed before they are used."""

from dataclasses import dataclass, field
from uuid import UUID

from schemas.encryption import WrongSecretKey, decrypt, encrypt
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import oauth
from schemas.xero.access import loss
from schemas.xero.access.problems import AccessProblem
from schemas.xero.client_errors import OutcomeUnknown, Refused
from schemas.xero.oauth import Tokens

RENEW_SECONDS = 60  # an access token is renewed that long before it expires, so that it stays valid during the call
SUSPECTED_SECONDS = 2.0  # a caller that waits until access is checked tries again after this
# Of the refusals of Xero's identity service, those that say why there is no access. Others, such as a proxy's, say nothing.
REFUSALS = {
    "invalid_grant": AccessProblem.revoked,
    "invalid_client": AccessProblem.app_refused,
    "unauthorized_client": AccessProblem.app_refused,
}


@dataclass(frozen=True)
class Access:
    """The connected organisation and its access token. None: the token has to be renewed first. `check_seconds`: it is being
    checked whether Stint still has access, so no call should start for that long."""

    tenant_id: str
    token: str | None = field(repr=False)
    check_seconds: float | None = None


@dataclass(frozen=True)
class AccessState:
    """What is known of the access when a call has failed. `was_found`: a check has found it lately."""

    token: str = field(repr=False)
    is_lost: bool
    is_suspected: bool
    was_found: bool


async def access(conn: Connection, settings: Settings, *, lock: bool = False) -> Access | None:
    """The connected organisation. None: Stint is not connected, or Xero gives it no access any more. With `lock` the connection
    stays as it is until the transaction ends."""
    row = await conn.maybe(
        f"""
        SELECT id, tenant_id, CASE WHEN expires_at > clock_timestamp() + make_interval(secs => %s) THEN access_token END,
               CASE WHEN access_suspected_at IS NOT NULL
                    THEN %s + greatest(0, extract(epoch FROM access_check_at - clock_timestamp()))::float END,
               tenant_id IS NOT NULL AND needs_reconnect_at IS NULL
        FROM xero_connection {"FOR KEY SHARE" if lock else ""}
        """,
        (RENEW_SECONDS, SUSPECTED_SECONDS),
    )
    if row is None or not row[-1]:
        return None
    connection_id, tenant_id, encrypted, check_seconds, _ = row
    token = encrypted and _decrypt(encrypted, connection_id, "access_token", settings)
    return Access(tenant_id, token, check_seconds)


async def renew(conn: Connection, settings: Settings, *, seconds: float) -> None:
    """Renews the access token if it is about to expire, and commits. Of many concurrent callers, one calls Xero. If the answer
    is lost, so are the new tokens, and the next attempt sends the old refresh token: Xero accepts it for 30 more minutes.

    Raises XeroError when Xero could not be called. When Xero refuses the tokens or this app, access is marked as lost.
    """
    async with conn.transaction():
        row = await conn.maybe(
            """
            SELECT id, refresh_token, expires_at > clock_timestamp() + make_interval(secs => %s) FROM xero_connection
            WHERE tenant_id IS NOT NULL AND (needs_reconnect_at IS NULL OR access_check_at IS NOT NULL) FOR NO KEY UPDATE
            """,
            (RENEW_SECONDS,),
        )
        if row is None:
            return
        connection_id, encrypted, is_valid = row
        if is_valid:
            return
        try:
            refresh_token = _decrypt(encrypted, connection_id, "refresh_token", settings)
            tokens = await oauth.refresh(settings, refresh_token, seconds=seconds)
        except Refused as error:
            if (problem := REFUSALS.get(str(error))) is None:
                raise OutcomeUnknown(str(error)) from None
            await loss.mark_lost(conn, problem, settings)
        else:
            await conn.execute(
                """
                UPDATE xero_connection SET access_token = %(access)s, refresh_token = %(refresh)s,
                    expires_at = clock_timestamp() + make_interval(secs => %(expires_in)s)
                """,
                encrypted_columns(tokens, connection_id, settings),
            )


async def valid_token(conn: Connection, settings: Settings) -> str | None:
    """The access token, also while access is lost. None: it has expired."""
    row = await conn.maybe(
        "SELECT id, access_token FROM xero_connection WHERE expires_at > clock_timestamp() + make_interval(secs => %s)",
        (RENEW_SECONDS,),
    )
    return None if row is None else _decrypt(row[1], row[0], "access_token", settings)


async def lock_state(conn: Connection, settings: Settings, *, found_seconds: float) -> AccessState | None:
    """Locks the connection until the transaction ends. `was_found` is for a check in the last `found_seconds`. None: Stint is
    not connected."""
    row = await conn.maybe(
        """
        SELECT id, access_token, needs_reconnect_at IS NOT NULL, access_suspected_at IS NOT NULL,
               coalesce(access_found_at > clock_timestamp() - make_interval(secs => %s), false)
        FROM xero_connection WHERE tenant_id IS NOT NULL FOR NO KEY UPDATE
        """,
        (found_seconds,),
    )
    if row is None:
        return None
    connection_id, encrypted, *state = row
    return AccessState(_decrypt(encrypted, connection_id, "access_token", settings), *state)


async def expire(conn: Connection) -> None:
    """Makes the next call renew the access token first. The connection must be locked."""
    await conn.execute("UPDATE xero_connection SET expires_at = clock_timestamp()")


async def lock_refresh_token(conn: Connection, settings: Settings) -> str | None:
    """Locks the connection until the transaction ends and returns its refresh token. None: Stint is not connected."""
    row = await conn.maybe("SELECT id, refresh_token FROM xero_connection WHERE tenant_id IS NOT NULL FOR UPDATE")
    return None if row is None else _decrypt(row[1], row[0], "refresh_token", settings)


async def unreadable_organisation(conn: Connection, settings: Settings) -> str | None:
    """The name of the connected organisation, if SECRET_KEY does not decrypt the tokens for it, else None."""
    row = await conn.maybe(
        """
        SELECT id, access_token, refresh_token, coalesce(tenant_name, tenant_id)
        FROM xero_connection WHERE tenant_id IS NOT NULL
        """
    )
    if row is None:
        return None
    connection_id, access_token, refresh_token, name = row
    try:
        _decrypt(access_token, connection_id, "access_token", settings)
        _decrypt(refresh_token, connection_id, "refresh_token", settings)
    except WrongSecretKey:
        return str(name)
    return None


async def reencrypt(conn: Connection, settings: Settings) -> int:
    """Encrypts the tokens again under the first of the secret keys, and returns how many there are."""
    row = await conn.maybe(
        "SELECT id, access_token, refresh_token FROM xero_connection WHERE tenant_id IS NOT NULL FOR NO KEY UPDATE"
    )
    if row is None:
        return 0
    connection_id, encrypted_access, encrypted_refresh = row
    tokens = Tokens(
        access=_decrypt(encrypted_access, connection_id, "access_token", settings),
        refresh=_decrypt(encrypted_refresh, connection_id, "refresh_token", settings),
        expires_in=0,
    )
    await conn.execute(
        "UPDATE xero_connection SET access_token = %(access)s, refresh_token = %(refresh)s",
        encrypted_columns(tokens, connection_id, settings),
    )
    return 2


def encrypted_columns(tokens: Tokens, connection_id: UUID, settings: Settings) -> dict[str, str | int]:
    """The parameters `access`, `refresh` (encrypted) and `expires_in` of a statement that writes tokens."""
    key = settings.secret_key.get_secret_value()
    return {
        "access": encrypt(tokens.access, secret_key=key, context=_context(connection_id, "access_token")),
        "refresh": encrypt(tokens.refresh, secret_key=key, context=_context(connection_id, "refresh_token")),
        "expires_in": tokens.expires_in,
    }


def _decrypt(encrypted: str, connection_id: UUID, column: str, settings: Settings) -> str:
    return decrypt(encrypted, secret_key=settings.secret_key.get_secret_value(), context=_context(connection_id, column))


def _context(connection_id: UUID, column: str) -> str:
    return f"xero_connection {connection_id} {column}"
