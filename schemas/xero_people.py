"""Who can be named on time in Xero: found by their address, and read anew when somebody is missing."""

from schemas.database import Connection


async def reading(conn: Connection, tenant_id: str) -> None:
    """Somebody reads them now: others wait for what comes of it."""
    await conn.execute("UPDATE xero_tenants SET users_asked_at = clock_timestamp() WHERE tenant_id = %s", (tenant_id,))


async def not_read(conn: Connection, tenant_id: str) -> None:
    """That came to nothing."""
    await conn.execute("UPDATE xero_tenants SET users_asked_at = '-infinity' WHERE tenant_id = %s", (tenant_id,))


async def replace(conn: Connection, tenant_id: str, users: list[tuple[str, str]]) -> None:
    """These are the organisation's users now, as (id, address in lower case)."""
    await conn.execute("UPDATE xero_tenants SET users_read_at = clock_timestamp() WHERE tenant_id = %s", (tenant_id,))
    await conn.execute(
        """
        WITH now AS (SELECT * FROM unnest(%(ids)s::text[], %(emails)s::text[]) u (user_id, email)),
        gone AS (DELETE FROM xero_users WHERE tenant_id = %(tenant)s AND user_id <> ALL(%(ids)s))
        INSERT INTO xero_users (tenant_id, user_id, email) SELECT %(tenant)s, user_id, email FROM now
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET email = excluded.email
        """,
        {"tenant": tenant_id, "ids": [user_id for user_id, _ in users], "emails": [email for _, email in users]},
    )
