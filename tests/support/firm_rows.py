"""Rows of a firm in a database without processes, for tests that call one function of the domain."""

from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import connection
from schemas.xero.oauth import Organisation, Tokens
from tests.support.installation import SECRET_KEY

DAY = date(2026, 3, 2)
ORGANISATION = Organisation("connection", "tenant", "The firm", "2026-03-01")


@dataclass(frozen=True)
class FirmRows:
    """A customer with its default pillar, a task, and the consultant who created all of it."""

    customer: UUID
    pillar: UUID
    task: UUID
    user: UUID


async def user(conn: Connection, role: str | None = "internal_admin", **columns: Any) -> User:
    """A user, with the columns that are given."""
    user_id = uuid4()
    values = {"email": f"{user_id.hex[:8]}@example.com", "name": "Jo", "role": role} | columns
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    await conn.execute(f"INSERT INTO users (id, {names}) VALUES (%(id)s, {places})", values | {"id": user_id})
    known = {"internal_admin": Role.admin, "internal_user": Role.internal}.get(role or "", Role.customer_user)
    return User(id=user_id, email=values["email"], name="Jo", role=known, customer_id=values.get("customer_id"))


async def firm(conn: Connection, *, by: UUID | None = None, name: str = "Acme") -> FirmRows:
    """A new customer with a task."""
    by = by or (await user(conn)).id
    customer, pillar, task = uuid4(), uuid4(), uuid4()
    await conn.execute(
        "INSERT INTO customers (id, name, created_from, created_by) VALUES (%s, %s, 'x', %s)", (customer, name, by)
    )
    await conn.execute(
        "INSERT INTO pillars (id, customer_id, name, is_default) VALUES (%s, %s, 'General Support', true)", (pillar, customer)
    )
    await conn.execute(
        """
        INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by) VALUES (%s, 'Servers', %s, %s, 'x', %s)
        """,
        (task, customer, pillar, by),
    )
    return FirmRows(customer, pillar, task, by)


async def bill(conn: Connection, rows: FirmRows, *, seconds: int = 3600, status: str = "pending", **columns: Any) -> UUID:
    """A time bill with that many seconds on it, and no entry."""
    values: dict[str, Any] = {
        "user_id": rows.user, "customer_id": rows.customer, "pillar_id": rows.pillar, "date": DAY, "seconds": seconds,
        "rounding_increment": 1, "rounding_mode": "nearest", "status": status,
    }  # fmt: skip
    if status == "approved":
        values |= {"approved_by": rows.user, "approved_at": "2026-03-03", "approved_seconds": seconds}
    if status == "rejected":
        values |= {"rejection_note": "no"}
    values |= columns
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    found: UUID = await conn.value(f"INSERT INTO time_bills ({names}) VALUES ({places}) RETURNING id", values)
    return found


async def entry(conn: Connection, rows: FirmRows, bill_id: UUID | None, **columns: Any) -> UUID:
    """An hour on that bill."""
    values: dict[str, Any] = {
        "id": uuid4(), "task_id": rows.task, "user_id": rows.user, "customer_id": rows.customer, "pillar_id": rows.pillar,
        "start_time": "2026-03-02T09:00:00Z", "end_time": "2026-03-02T10:00:00Z", "date": DAY, "bill_id": bill_id,
    } | columns  # fmt: skip
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    await conn.execute(f"INSERT INTO time_entries ({names}) VALUES ({places})", values)
    found: UUID = values["id"]
    return found


async def connect_xero(conn: Connection) -> None:
    """Connects the firm to ORGANISATION."""
    settings = Settings(database_url="", secret_key=SecretStr(SECRET_KEY))
    async with conn.transaction():
        by = await user(conn)
        await connection.connect(conn, Tokens("access", "refresh", 1800), ORGANISATION, by=by, settings=settings)
