"""Secrets in Postgres that SECRET_KEY does not decrypt, because it is not the key that encrypted them: they cannot be used."""

from dataclasses import dataclass

from schemas.identity import signing_keys
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import connection, tokens


@dataclass(frozen=True)
class Unreadable:
    """What SECRET_KEY does not decrypt: the key that signs tokens, and the tokens for an organisation at Xero."""

    signing_key: bool = False
    organisation: str | None = None

    def __bool__(self) -> bool:
        return self.signing_key or self.organisation is not None

    @property
    def named(self) -> str:
        """All of it in words."""
        xero = f"Xero's tokens for {self.organisation}" if self.organisation else ""
        return " and ".join(filter(None, ("the signing key" if self.signing_key else "", xero)))


async def unreadable(conn: Connection, settings: Settings) -> Unreadable:
    """What SECRET_KEY does not decrypt."""
    readable = settings.uses_external_identity or await signing_keys.is_readable(conn, settings.secret_key.get_secret_value())
    return Unreadable(signing_key=not readable, organisation=await tokens.unreadable_organisation(conn, settings))


async def give_up(conn: Connection, found: Unreadable, settings: Settings) -> None:
    """Replaces the signing key, whose tokens remain valid until they expire, and deletes the connection to Xero, as if it had
    been disconnected there. In the caller's transaction."""
    if found.signing_key:
        await signing_keys.rotate_keys(conn, settings.secret_key.get_secret_value(), revoke_old=False)
    if found.organisation is not None:
        await connection.clear(conn)
