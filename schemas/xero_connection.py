"""The connection to Xero: one organisation, and the tokens that let Stint in, sealed.

Whoever connects or disconnects locks its row FOR UPDATE, and locks nothing after it; who renews the tokens, FOR NO KEY UPDATE;
who relies on the organisation, FOR KEY SHARE, before customers and bills.
"""

import hashlib
import secrets
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas import ledger, xero_tokens
from schemas.base import Body, Row
from schemas.clients import xero_identity
from schemas.clients.xero_identity import Organisation, Tokens
from schemas.database import Connection, one_json
from schemas.errors import Conflict, Invalid
from schemas.messages import QueueBills
from schemas.settings import Settings
from schemas.users import User

STATE_MINUTES = 10
NOT_SET_UP = "Xero is not set up here: set XERO_CLIENT_ID and XERO_CLIENT_SECRET to those of an app from developer.xero.com."
NOT_CONNECTED = "Xero is not connected; an admin connects it."


class Consent(Row):
    """Where to go to let Stint into Xero; what comes back there, `code` and `state`, is for POST /api/xero/connect."""

    url: str
    state: str


class Callback(Body):
    """What Xero appended to the redirect URI."""

    code: Annotated[str, Field(min_length=1, max_length=2000, examples=["what stands behind ?code="])]
    state: Annotated[str, Field(min_length=1, max_length=200, examples=["what stands behind &state="])]
    tenant_id: Annotated[
        str | None,
        Field(max_length=100, description="which organisation, if there are several; the one chosen last without it"),
    ] = None


class XeroStatus(Row):
    """How Stint stands with Xero."""

    connected: bool
    tenant_name: str | None
    expires_at: Annotated[datetime | None, Field(description="of the access token, which is renewed by itself")]
    needs_reconnect: Annotated[bool, Field(description="Xero no longer takes what it was given: an admin connects it again")]
    last_sync: Annotated[datetime | None, Field(description="when a bill last arrived there")]
    queued: Annotated[int, Field(description="approved bills on their way, or on their way back")]
    failed: Annotated[int, Field(description="approved bills that Xero refused; each says why")]


def check_set_up(settings: Settings) -> None:
    """Raises Conflict when there is no app to connect with."""
    if settings.xero_client_id is None or settings.xero_client_secret is None:
        raise Conflict(NOT_SET_UP)


async def begin(conn: Connection, *, by: User, settings: Settings) -> Consent:
    """Sends somebody to Xero, with a state that only they can bring back, once, within ten minutes."""
    check_set_up(settings)
    state = secrets.token_urlsafe(32)
    await conn.execute(
        """
        INSERT INTO xero_states (state_hash, user_id, expires_at)
        VALUES (%s, %s, clock_timestamp() + make_interval(mins => %s))
        """,
        (_hash(state), by.id, STATE_MINUTES),
    )
    return Consent(url=xero_identity.consent_url(settings, state), state=state)


async def use_up(conn: Connection, state: str, *, by: User) -> None:
    """Takes a state back, whatever comes of it. Raises Invalid for one that is not theirs, or no longer good."""
    cursor = await conn.execute(
        "DELETE FROM xero_states WHERE state_hash = %s AND user_id = %s AND expires_at > clock_timestamp() RETURNING 1",
        (_hash(state), by.id),
    )
    if await cursor.fetchone() is None:
        raise Invalid("state", "You did not begin this, or more than 10 minutes ago, or it was used; begin again at auth-url.")


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


def choose(found: list[Organisation], wanted: str | None) -> Organisation:
    """The organisation asked for; without one, that which was chosen last at Xero. Raises Invalid when it is not there."""
    if not found:
        raise Invalid("code", "No Xero organisation came with this sign-in; choose one at Xero.")
    if wanted is None:
        return max(found, key=lambda organisation: organisation.updated_at)
    for organisation in found:
        if organisation.tenant_id == wanted:
            return organisation
    raise Invalid("tenantId", "This organisation did not come with the sign-in; choose it at Xero.")


async def connect(conn: Connection, tokens: Tokens, to: Organisation, *, by: User, settings: Settings) -> None:
    """Writes the connection down, and promises that bills which waited for it are queued."""
    connection_id = await _lock(conn)
    await conn.execute(
        """
        UPDATE xero_connection
        SET tenant_id = %(tenant)s, tenant_name = %(name)s, connection_id = %(connection)s, access_token = %(access)s,
            refresh_token = %(refresh)s, expires_at = clock_timestamp() + make_interval(secs => %(expires_in)s),
            connected_at = clock_timestamp(), connected_by = %(by)s, needs_reconnect_at = NULL
        """,
        xero_tokens.sealed(tokens, connection_id, settings)
        | {"tenant": to.tenant_id, "name": to.name, "connection": to.connection_id, "by": by.id},
    )
    await conn.execute(
        """
        INSERT INTO xero_tenants (tenant_id) VALUES (%s)
        ON CONFLICT (tenant_id) DO UPDATE SET users_read_at = '-infinity', booked_until = '-infinity'
        """,
        (to.tenant_id,),
    )
    await ledger.put(conn, QueueBills(because="connected"), created_by=by.id)


async def _lock(conn: Connection) -> UUID:
    row = await (await conn.execute("SELECT id FROM xero_connection FOR UPDATE")).fetchone()
    assert row is not None, "the migration made it"
    connection_id: UUID = row[0]
    return connection_id


async def forget(conn: Connection) -> None:
    """Forgets the organisation and its tokens. Bills that were on their way say so when their turn comes."""
    await conn.execute(
        """
        UPDATE xero_connection
        SET tenant_id = NULL, tenant_name = NULL, connection_id = NULL, access_token = NULL, refresh_token = NULL,
            expires_at = NULL, connected_at = NULL, connected_by = NULL, needs_reconnect_at = NULL
        """
    )


async def status(conn: Connection) -> bytes:
    """The status as JSON."""
    found = await one_json(
        conn,
        """
        SELECT json_build_object(
            'connected', tenant_id IS NOT NULL, 'tenantName', tenant_name,
            'expiresAt', to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'needsReconnect', needs_reconnect_at IS NOT NULL,
            'lastSync', (SELECT to_char(max(xero_synced_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM time_bills),
            'queued', (SELECT count(*) FROM time_bills WHERE xero_status IN ('queued', 'withdrawing')),
            'failed', (SELECT count(*) FROM time_bills WHERE xero_status = 'failed'))
        FROM xero_connection
        """,
    )
    assert found is not None
    return found


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets states that nobody brought back, some at a time."""
    await conn.execute(
        """
        DELETE FROM xero_states WHERE state_hash IN (
            SELECT state_hash FROM xero_states WHERE expires_at < clock_timestamp() LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (rows,),
    )
