"""Customers: whom the firm works for. Each begins with one pillar, "General Support"."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import Field

from schemas import ledger
from schemas.addresses import Email
from schemas.base import Body, Flag, Name, Rounding, Row, Sql, Text, Version, json_object
from schemas.database import Connection
from schemas.errors import Conflict, Invalid, NotFound
from schemas.listing import Order, Page, Selection
from schemas.messages import QueueBills
from schemas.references import Area, bury_empty_bills, hold_tasks
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


class RoundingChange(Body):
    """What is left out stays. A bill keeps the rule it was opened with; those opened from now on follow the new one."""

    increment: Annotated[Rounding | None, Field(description="minutes: 1, 5, 6, 10, 15 or 30")] = None
    mode: Annotated[Literal["nearest", "up"] | None, Field(description="round to the nearest increment, or always up")] = None


Phone = Annotated[str, Field(max_length=50)]
XeroId = Annotated[str, Field(max_length=100)]


class NewCustomer(Body):
    """A customer to create; with an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    name: Annotated[Name, Field(examples=["Acme Ltd"])]
    email: Email | None = None
    phone: Phone | None = None
    notes: Text = ""
    active: Flag = True
    rounding: RoundingChoice = RoundingChoice()
    xero_contact_id: XeroId | None = None
    xero_project_id: XeroId | None = None


class CustomerChange(Body):
    """What is left out keeps its value; null clears email, phone and the ids in Xero."""

    name: Annotated[Name | None, Field(examples=["Acme Ltd"])] = None
    email: Email | None = None
    phone: Phone | None = None
    notes: Text | None = None
    active: Flag | None = None
    rounding: RoundingChange | None = None
    xero_contact_id: XeroId | None = None
    xero_project_id: XeroId | None = None
    version: Version | None = None


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


async def hold(conn: Connection, customer_id: UUID) -> bool:
    """Keeps the customer from being deleted, and its pillars as they are, until the transaction ends; whoever puts a task or a
    user on it does so first. False when there is no such customer."""
    cursor = await conn.execute("SELECT id FROM customers WHERE id = %s AND deleted_at IS NULL FOR SHARE", (customer_id,))
    return await cursor.fetchone() is not None


async def exists(conn: Connection, customer_id: UUID) -> bool:
    """Whether there is such a customer."""
    cursor = await conn.execute("SELECT FROM customers WHERE id = %s AND deleted_at IS NULL", (customer_id,))
    return await cursor.fetchone() is not None


async def lock(conn: Connection, customer_id: UUID, *, version: int | None = None) -> None:
    """Holds the customer for who changes or deletes it, or one of its pillars: the first lock of these, before those on tasks.

    Raises NotFound when there is none, Conflict for a stale version.
    """
    cursor = await conn.execute(
        f"""
        SELECT version, {json_object(Customer, "c")} FROM customers c
        WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """.encode(),
        (customer_id,),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such customer.")
    if version is not None and version != row[0]:
        raise Conflict("The customer has changed since you read it.", current=row[1])


async def change(conn: Connection, customer_id: UUID, wanted: CustomerChange) -> Customer:
    """Writes what is sent. Raises NotFound for an unknown customer, Conflict for a stale version."""
    await lock(conn, customer_id, version=wanted.version)
    if not (values := _values(wanted)):
        raise Invalid("", "Send at least one field to change.")
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    cursor = await conn.execute(
        f"""
        UPDATE customers c SET {assignments}, version = version + 1 WHERE id = %(id)s
        RETURNING {json_object(Customer, "c")}::text
        """.encode(),
        values | {"id": customer_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    if values.get("xero_project_id"):  # approved bills may have waited for it
        await ledger.put(conn, QueueBills(because="mapped", customer_id=customer_id))
    return Customer.from_json(row[0])


def _values(wanted: CustomerChange) -> dict[str, Any]:
    """The columns that are written, with their values: null is one for what can be empty, elsewhere it is nothing."""
    sent = wanted.model_dump(include=wanted.model_fields_set - {"version", "rounding"})
    can_be_empty = ("email", "phone", "xero_contact_id", "xero_project_id")
    values = {name: value for name, value in sent.items() if value is not None or name in can_be_empty}
    if wanted.rounding is not None:
        rule = wanted.rounding.model_dump(exclude_none=True)
        values |= {f"rounding_{part}": value for part, value in rule.items()}
    return values


async def delete(conn: Connection, customer_id: UUID, *, version: int | None) -> None:
    """Leaves tombstones of the customer, its tasks, pillars, channel mappings and bills that nothing is on, and revokes its
    users at once.

    Raises NotFound for an unknown customer, Conflict for a stale version and while hours, or a promise of some, refer to it.
    """
    await lock(conn, customer_id, version=version)
    # not those who have become the firm's own people since
    await conn.execute(
        """
        UPDATE users SET revoked_at = now()
        WHERE customer_id = %s AND revoked_at IS NULL AND NOT coalesce(starts_with(role, 'internal_'), false)
        """,
        (customer_id,),
    )
    area = Area(customer_id)
    await hold_tasks(conn, area)
    await bury_empty_bills(conn, area)
    for statement in (
        "UPDATE tasks SET deleted_at = now(), version = version + 1 WHERE customer_id = %s AND deleted_at IS NULL",
        "UPDATE pillars SET deleted_at = now(), version = version + 1 WHERE customer_id = %s AND deleted_at IS NULL",
        """
        UPDATE slack_channel_mappings SET deleted_at = now(), version = version + 1
        WHERE customer_id = %s AND deleted_at IS NULL
        """,
        "UPDATE customers SET deleted_at = now(), version = version + 1 WHERE id = %s",
        "UPDATE focus SET expires_at = greatest(since, now()) WHERE customer_id = %s AND expires_at > now()",
    ):
        await conn.execute(statement, (customer_id,))


def _visible_to(user: User) -> Selection:
    selection = Selection("customer", Customer, "customers", "c", Order("created_at", "timestamptz"))
    selection.where("c.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("c.id = %(own_customer)s", own_customer=user.customer_id)
        selection.audible = lambda _: "c.id = %(own_customer)s"
    return selection


async def get(conn: Connection, customer_id: UUID, *, user: User) -> bytes:
    """The customer as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, customer_id)


async def list_page(conn: Connection, page: Page, *, user: User) -> bytes:
    """The customers this user may see, newest first; or those that changed since the page's `since`."""
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
