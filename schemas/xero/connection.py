"""The connection to Xero: one organisation, and the encrypted tokens for it.

Locks on its row:

- A transaction that connects, disconnects or finds access again takes FOR UPDATE. After it, it locks only customers, pillars
and   the organisation's row.
- One that renews the tokens takes FOR NO KEY UPDATE.
- One that syncs a bill takes FOR KEY SHARE before customers and bills, so that the organisation stays the same.
"""

import hashlib
import secrets
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row
from schemas.errors import Conflict, Invalid
from schemas.identity.users import User
from schemas.messages import QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import oauth
from schemas.xero import tokens as xero_tokens
from schemas.xero.oauth import Organisation, Tokens

STATE_MINUTES = 10
NOT_SET_UP = "Xero is not set up here: set XERO_CLIENT_ID and XERO_CLIENT_SECRET to those of an app from developer.xero.com."
NOT_CONNECTED = "Xero is not connected; an admin has to connect it."
UNKNOWN_APP = "Xero does not know this app: check XERO_CLIENT_ID and XERO_CLIENT_SECRET."
_NO_TROUBLE = """
    needs_reconnect_at = NULL, access_problem = NULL, access_suspected_at = NULL, access_found_at = NULL,
    access_check_at = NULL, access_check_id = NULL
"""


class Consent(Row):
    """The page on which an admin gives Stint access to Xero. `code` and `state`, which Xero appends to the redirect URI, are
    for POST /api/xero/connect."""

    url: str
    state: str


class Callback(Body):
    """What Xero appended to the redirect URI."""

    code: Annotated[str, Field(min_length=1, max_length=2000, examples=["the value of ?code="])]
    state: Annotated[str, Field(min_length=1, max_length=200, examples=["the value of &state="])]
    tenant_id: Annotated[
        str | None,
        Field(max_length=100, description="the organisation, if there are several; without it, the one chosen last at Xero"),
    ] = None


def require_app_credentials(settings: Settings) -> None:
    """Raises Conflict while the credentials of a Xero app are not set."""
    if settings.xero_client_id is None or settings.xero_client_secret is None:
        raise Conflict(NOT_SET_UP)


async def start_consent(conn: Connection, *, by: User, settings: Settings) -> Consent:
    """The consent page for this user. Its `state` works once, for this user alone, within ten minutes."""
    require_app_credentials(settings)
    state = secrets.token_urlsafe(32)
    await conn.execute(
        """
        INSERT INTO xero_oauth_states (state_hash, user_id, expires_at)
        VALUES (%s, %s, clock_timestamp() + make_interval(mins => %s))
        """,
        (_hash(state), by.id, STATE_MINUTES),
    )
    return Consent(url=oauth.consent_url(settings, state), state=state)


async def consume_state(conn: Connection, state: str, *, by: User) -> None:
    """Uses up a state. Raises Invalid for one that is another user's, expired, or used already."""
    deleted = await conn.maybe(
        "DELETE FROM xero_oauth_states WHERE state_hash = %s AND user_id = %s AND expires_at > clock_timestamp() RETURNING 1",
        (_hash(state), by.id),
    )
    if deleted is None:
        raise Invalid(
            "state", "This state is not yours, is older than 10 minutes, or was used already; start again at auth-url."
        )


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


def choose_organisation(organisations: list[Organisation], tenant_id: str | None) -> Organisation:
    """The organisation with that id. Without an id, the one that was chosen last at Xero. Raises Invalid if there is none."""
    if not organisations:
        raise Invalid("code", "This consent gives access to no Xero organisation; start again and choose one at Xero.")
    if tenant_id is None:
        return max(organisations, key=lambda organisation: organisation.updated_at)
    for organisation in organisations:
        if organisation.tenant_id == tenant_id:
            return organisation
    raise Invalid("tenantId", "This consent gives no access to that organisation; start again and choose it at Xero.")


async def connect(conn: Connection, tokens: Tokens, organisation: Organisation, *, by: User, settings: Settings) -> None:
    """Stores the connection, and enqueues the messages that queue bills for Xero.

    These are bills that have waited for the connection, or for a mapping of this organisation, or that have failed without it.
    """
    connection_id = await _lock(conn)
    await _bind_mappings(conn)
    await conn.execute(
        f"""
        UPDATE xero_connection
        SET tenant_id = %(tenant)s, tenant_name = %(name)s, connection_id = %(connection)s, access_token = %(access)s,
            refresh_token = %(refresh)s, expires_at = clock_timestamp() + make_interval(secs => %(expires_in)s),
            connected_at = clock_timestamp(), connected_by = %(by)s, connect_attempt_id = NULL, connecting_until = NULL,
            connect_error = NULL, {_NO_TROUBLE}
        """,
        xero_tokens.encrypted_columns(tokens, connection_id, settings)
        | {
            "tenant": organisation.tenant_id,
            "name": organisation.name,
            "connection": organisation.connection_id,
            "by": by.id,
        },
    )
    await conn.execute(
        """
        INSERT INTO xero_tenants (tenant_id) VALUES (%s)
        ON CONFLICT (tenant_id) DO UPDATE SET users_fetched_at = '-infinity', reserved_until = '-infinity'
        """,
        (organisation.tenant_id,),
    )
    await outbox.enqueue_many(conn, [QueueBills(because=why) for why in ("connected", "mapped", "access")], created_by=by.id)


async def _lock(conn: Connection) -> UUID:
    (connection_id,) = await conn.one("SELECT id FROM xero_connection FOR UPDATE")  # the migration inserted the row
    return UUID(str(connection_id))


async def connected_at(conn: Connection) -> datetime | None:
    """Since when Stint is connected with this organisation; None: it is not connected."""
    found: datetime | None = await conn.value("SELECT connected_at FROM xero_connection")
    return found


async def clear(conn: Connection) -> None:
    """Deletes the organisation and its tokens. Queued bills become `not_connected` when their messages are handled."""
    await _lock(conn)
    await _bind_mappings(conn)
    await conn.execute(
        f"""
        UPDATE xero_connection
        SET tenant_id = NULL, tenant_name = NULL, connection_id = NULL, access_token = NULL, refresh_token = NULL,
            expires_at = NULL, connected_at = NULL, connected_by = NULL, {_NO_TROUBLE}
        """
    )


async def _bind_mappings(conn: Connection) -> None:
    """Records that mappings without an organisation are of the present one. Call it before the organisation changes."""
    for table, column in (("customers", "xero_project_id"), ("pillars", "xero_task_id")):
        await conn.execute(
            f"""
            UPDATE {table} SET xero_tenant_id = x.tenant_id FROM xero_connection x
            WHERE x.tenant_id IS NOT NULL AND {table}.id IN (
                SELECT id FROM {table} WHERE {column} IS NOT NULL AND xero_tenant_id IS NULL ORDER BY id FOR NO KEY UPDATE)
            """
        )
