"""Customers: whom the firm works for. Each begins with one pillar, "General Support"."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field

from schemas.base import Body, Flag, Name, Rounding, Row, Sql, Text, json_object
from schemas.database import Connection
from schemas.errors import Conflict
from schemas.listing import Order, Page, Selection
from schemas.users import User

DEFAULT_PILLAR = "General Support"


class RoundingRule(Row):
    """How seconds become billed minutes: to the nearest multiple of the increment, or up to the next one."""

    increment: Annotated[Rounding, Field(description="minutes")] = 1
    mode: Literal["nearest", "up"] = "nearest"


class Customer(Row):
    """A customer, as answered."""

    id: UUID
    name: Annotated[str, Field(examples=["Acme Ltd"])]
    email: str | None
    phone: str | None
    notes: str
    active: bool
    rounding: Annotated[RoundingRule, Sql("json_build_object('increment', {t}.rounding_increment, 'mode', {t}.rounding_mode)")]
    xero_contact_id: str | None
    xero_project_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class RoundingChoice(Body):
    """The rule for bills that are opened from now on; a bill keeps the rule it was opened with."""

    increment: Annotated[Rounding, Field(description="minutes: 1, 5, 6, 10, 15 or 30")] = 1
    mode: Annotated[Literal["nearest", "up"], Field(description="round to the nearest increment, or always up")] = "nearest"


class NewCustomer(Body):
    """A customer to create; with an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    name: Annotated[Name, Field(examples=["Acme Ltd"])]
    email: Annotated[str | None, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$", examples=["it@acme.example"])] = None
    phone: Annotated[str | None, Field(max_length=50)] = None
    notes: Text = ""
    active: Flag = True
    rounding: RoundingChoice = RoundingChoice()
    xero_contact_id: Annotated[str | None, Field(max_length=100)] = None
    xero_project_id: Annotated[str | None, Field(max_length=100)] = None


async def create(conn: Connection, new: NewCustomer, *, by: User) -> Customer:
    """The new customer, with its default pillar. The same id with the same body gives the same customer; raises Conflict
    for the same id with another body."""
    cursor = await conn.execute(
        f"""
        INSERT INTO customers AS c (id, name, email, phone, notes, active, rounding_increment, rounding_mode,
                                    xero_contact_id, xero_project_id, created_from, created_by)
        VALUES (%(id)s, %(name)s, %(email)s, %(phone)s, %(notes)s, %(active)s, %(increment)s, %(mode)s,
                %(xero_contact_id)s, %(xero_project_id)s, %(fingerprint)s, %(by)s)
        ON CONFLICT (id) DO NOTHING
        RETURNING {json_object(Customer, "c")}::text
        """.encode(),
        new.model_dump(exclude={"rounding"})
        | {"id": new.id or uuid4(), "fingerprint": new.fingerprint(), "by": by.id}
        | new.rounding.model_dump(),
    )
    if (row := await cursor.fetchone()) is None:
        return await _created_before(conn, new)
    customer = Customer.from_json(row[0])
    await conn.execute(
        "INSERT INTO pillars (id, customer_id, name, is_default) VALUES (%s, %s, %s, true)",
        (uuid4(), customer.id, DEFAULT_PILLAR),
    )
    return customer


async def _created_before(conn: Connection, new: NewCustomer) -> Customer:
    cursor = await conn.execute(
        f"""
        SELECT {json_object(Customer, "c")}::text FROM customers c
        WHERE id = %s AND created_from = %s AND deleted_at IS NULL
        """.encode(),
        (new.id, new.fingerprint()),
    )
    if (row := await cursor.fetchone()) is None:
        raise Conflict("Another customer has this id; take a new one.")
    return Customer.from_json(row[0])


def _visible_to(user: User) -> Selection:
    selection = Selection("customer", Customer, "customers", "c", Order("created_at", "timestamptz"))
    selection.where("c.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("c.id = %(own_customer)s", own_customer=user.customer_id)
    return selection


async def get(conn: Connection, customer_id: UUID, *, user: User) -> bytes:
    """The customer as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, customer_id)


async def list_page(conn: Connection, page: Page, *, user: User) -> bytes:
    """The customers this user may see, newest first."""
    return await _visible_to(user).page(conn, page)


async def narrow_to(conn: Connection, selection: Selection, customer: str) -> None:
    """Narrows a selection of rows that have a customer_id to one customer: an id, or an exact name in any case.

    A name is looked up first: what the planner does not know it can only guess at, and for a name without rows it would walk
    through all that there are."""
    try:
        ids = [UUID(customer)]
    except ValueError:
        cursor = await conn.execute("SELECT id FROM customers WHERE lower(name) = lower(%s)", (customer,))
        ids = [row[0] for row in await cursor.fetchall()]
    if len(ids) == 1:
        selection.where(f"{selection.alias}.customer_id = %(customer)s", customer=ids[0])
    else:
        selection.where(f"{selection.alias}.customer_id = ANY(%(customers)s)" if ids else "false", customers=ids)
