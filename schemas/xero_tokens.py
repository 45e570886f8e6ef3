"""The tokens that let Stint into Xero: sealed at rest, renewed by one at a time, committed before they are used."""

from dataclasses import dataclass, field
from uuid import UUID

from schemas import ledger, mails
from schemas.clients import xero_identity
from schemas.clients.xero_errors import Refused
from schemas.clients.xero_identity import Tokens
from schemas.database import Connection
from schemas.sealing import seal, unseal
from schemas.settings import Settings

RENEW_SECONDS = 60  # before an access token ends, so that it lasts for the call


@dataclass(frozen=True)
class Access:
    """The organisation that Stint is connected to. Without a token: it has to be renewed first."""

    tenant_id: str
    token: str | None = field(repr=False)


async def read(conn: Connection, settings: Settings, *, hold: bool = False) -> Access | None:
    """The organisation, or None when Stint is connected to none, or Xero no longer takes its tokens. With `hold` that stays so
    until the transaction ends."""
    cursor = await conn.execute(
        f"""
        SELECT id, tenant_id, CASE WHEN expires_at > clock_timestamp() + make_interval(secs => %s) THEN access_token END
        FROM xero_connection WHERE tenant_id IS NOT NULL AND needs_reconnect_at IS NULL {"FOR KEY SHARE" if hold else ""}
        """.encode(),
        (RENEW_SECONDS,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    connection_id, tenant_id, kept = row
    return Access(tenant_id, kept and _unseal(kept, connection_id, "access_token", settings))


def _unseal(kept: str, connection_id: UUID, column: str, settings: Settings) -> str:
    return unseal(kept, secret_key=settings.secret_key.get_secret_value(), place=_place(connection_id, column))


async def renew(conn: Connection, settings: Settings, *, seconds: float) -> None:
    """Renews the access token if it is about to end, and commits; of many who come at once, one does. If the answer is lost,
    so are the new tokens, and the old refresh token is used again: Xero honours it for half an hour more.

    Raises XeroError when Xero could not be asked. When it no longer takes the refresh token, the connection says so from now
    on, and each admin gets a mail.
    """
    async with conn.transaction():
        cursor = await conn.execute(
            """
            SELECT id, refresh_token, expires_at > clock_timestamp() + make_interval(secs => %s) FROM xero_connection
            WHERE tenant_id IS NOT NULL AND needs_reconnect_at IS NULL FOR NO KEY UPDATE
            """,
            (RENEW_SECONDS,),
        )
        row = await cursor.fetchone()
        if row is None or row[2]:
            return
        connection_id, kept, _ = row
        try:
            refresh_token = _unseal(kept, connection_id, "refresh_token", settings)
            tokens = await xero_identity.refresh(settings, refresh_token, seconds=seconds)
        except Refused as error:
            if str(error) != "invalid_grant":  # our own fault, such as a wrong client secret: the grant may be good
                raise
            await _give_up(conn)
        else:
            await conn.execute(
                """
                UPDATE xero_connection SET access_token = %(access)s, refresh_token = %(refresh)s,
                    expires_at = clock_timestamp() + make_interval(secs => %(expires_in)s)
                """,
                sealed(tokens, connection_id, settings),
            )


async def _give_up(conn: Connection) -> None:
    await conn.execute("UPDATE xero_connection SET needs_reconnect_at = clock_timestamp()")
    cursor = await conn.execute(
        "SELECT email FROM users WHERE role = 'internal_admin' AND revoked_at IS NULL AND email <> '' ORDER BY id"
    )
    await ledger.put_all(conn, [mails.xero_needs_reconnecting(to=email) for (email,) in await cursor.fetchall()])


async def distrust(conn: Connection, token: str, settings: Settings) -> None:
    """Xero did not take this access token, whatever its time: the next call renews it first; unless it is renewed already."""
    cursor = await conn.execute("SELECT id, access_token FROM xero_connection WHERE tenant_id IS NOT NULL FOR NO KEY UPDATE")
    row = await cursor.fetchone()
    if row is not None and _unseal(row[1], row[0], "access_token", settings) == token:
        await conn.execute("UPDATE xero_connection SET expires_at = clock_timestamp()")


async def refresh_token(conn: Connection, settings: Settings) -> str | None:
    """What there is to revoke; None when Stint is not connected. Held until the transaction ends."""
    cursor = await conn.execute("SELECT id, refresh_token FROM xero_connection WHERE tenant_id IS NOT NULL FOR UPDATE")
    row = await cursor.fetchone()
    return None if row is None else _unseal(row[1], row[0], "refresh_token", settings)


async def seal_anew(conn: Connection, settings: Settings) -> int:
    """Seals the tokens under the first of the secret keys, and returns how many there are."""
    cursor = await conn.execute(
        "SELECT id, access_token, refresh_token FROM xero_connection WHERE tenant_id IS NOT NULL FOR NO KEY UPDATE"
    )
    row = await cursor.fetchone()
    if row is None:
        return 0
    access, refresh = (_unseal(row[n], row[0], name, settings) for n, name in ((1, "access_token"), (2, "refresh_token")))
    anew = sealed(Tokens(access, refresh, 0), row[0], settings)
    await conn.execute("UPDATE xero_connection SET access_token = %(access)s, refresh_token = %(refresh)s", anew)
    return 2


def sealed(tokens: Tokens, connection_id: UUID, settings: Settings) -> dict[str, str | int]:
    """The values of the columns that hold tokens, by the names that the statements here have for them."""
    key = settings.secret_key.get_secret_value()
    return {
        "access": seal(tokens.access, secret_key=key, place=_place(connection_id, "access_token")),
        "refresh": seal(tokens.refresh, secret_key=key, place=_place(connection_id, "refresh_token")),
        "expires_in": tokens.expires_in,
    }


def _place(connection_id: UUID, column: str) -> str:
    return f"xero_connection {connection_id} {column}"
