"""Customers of the firm. Each starts with one pillar, "General Support"."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, Field, StringConstraints

from schemas import names
from schemas.base import Body, Flag, Name, Rounding, Row, SchemaKeyword, Sql, Text, Version, json_object
from schemas.customers.deletion import DeletionScope, lock_tasks, tombstone_empty_bills
from schemas.email_addresses import Email
from schemas.errors import NotFound
from schemas.identity.users import User
from schemas.messages import QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import NewRow, VersionedTable, sent_values

DEFAULT_PILLAR = "General Support"


class RoundingRule(Row):
    """How seconds become billed minutes: to the nearest multiple of the increment, or up to the next one."""

    increment: Annotated[Rounding, Field(description="minutes")] = 1
    mode: Literal["nearest", "up"] = "nearest"


class Customer(Row):
    """A customer, as the API returns it."""

    id: UUID
    name: Annotated[str, Field(examples=["Acme Ltd"])]
    email: str | None
    phone: str | None
    notes: str
    active: Annotated[bool, Field(description="an inactive customer takes no new tasks, hours and timers; what exists stays")]
    rounding: Annotated[RoundingRule, Sql("json_build_object('increment', {t}.rounding_increment, 'mode', {t}.rounding_mode)")]
    xero_contact_id: str | None
    xero_project_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class RoundingChoice(Body):
    """The rule for bills that are opened from now on. Each bill keeps the rule that it was opened with."""

    increment: Annotated[Rounding, Field(description="minutes: 1, 5, 6, 10, 15 or 30")] = 1
    mode: Annotated[Literal["nearest", "up"], Field(description="round to the nearest increment, or always up")] = "nearest"


class RoundingChange(Body):
    """Fields that are left out keep their values. Each bill keeps the rule that it was opened with."""

    increment: Annotated[Rounding | None, Field(description="minutes: 1, 5, 6, 10, 15 or 30")] = None
    mode: Annotated[Literal["nearest", "up"] | None, Field(description="round to the nearest increment, or always up")] = None


Phone = Annotated[str, Field(max_length=50), AfterValidator(names.on_one_line)]
XeroId = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(names.check_visible),
    SchemaKeyword("pattern", names.HAS_VISIBLE),  # an empty id would count as a mapping
]


class NewCustomer(NewRow):
    """A customer to create. If you choose the `id`, the request can be repeated safely."""

    name: Annotated[Name, Field(examples=["Acme Ltd"])]
    email: Email | None = None
    phone: Phone | None = None
    notes: Text = ""
    active: Flag = True
    rounding: Annotated[RoundingChoice, Field(default_factory=RoundingChoice)]
    xero_contact_id: XeroId | None = None
    xero_project_id: XeroId | None = None


class PillarMapping(Body):
    """The task in Xero of one of the customer's pillars."""

    id: UUID
    xero_task_id: XeroId | None


class CustomerChange(Body):
    """Fields that are left out keep their values; null clears email, phone and the ids in Xero."""

    name: Annotated[Name | None, Field(examples=["Acme Ltd"])] = None
    email: Email | None = None
    phone: Phone | None = None
    notes: Text | None = None
    active: Flag | None = None
    rounding: RoundingChange | None = None
    xero_contact_id: XeroId | None = None
    xero_project_id: XeroId | None = None
    pillars: Annotated[
        list[PillarMapping] | None,
        Field(min_length=1, max_length=100, description="the tasks of pillars, written together with the project"),
    ] = None
    version: Version | None = None


CUSTOMERS = VersionedTable("customer", Customer, "customers")


async def create(conn: Connection, body: NewCustomer, *, by: User) -> Customer:
    """Creates the customer with its default pillar. A request with the same id and the same body returns the same customer.

    Raises Conflict for the same id with another body.
    """
    row = await conn.value(
        f"""
        INSERT INTO customers AS c (id, name, email, phone, notes, active, rounding_increment, rounding_mode,
                                    xero_contact_id, xero_project_id, xero_tenant_id, created_from, created_by)
        VALUES (%(id)s, %(name)s, %(email)s, %(phone)s, %(notes)s, %(active)s, %(increment)s, %(mode)s,
                %(xero_contact_id)s, %(xero_project_id)s, %(tenant)s, %(fingerprint)s, %(by)s)
        ON CONFLICT (id) DO NOTHING
        RETURNING {json_object(Customer, "c")}::text
        """,
        body.model_dump(exclude={"rounding"})
        | {"id": body.id or uuid4(), "fingerprint": body.fingerprint(), "by": by.id}
        | {"tenant": await tenant_of(conn, body.xero_project_id)}
        | body.rounding.model_dump(),
    )
    if row is None:
        before = await CUSTOMERS.created_before(conn, body)
        assert before is not None, "rows are never removed"
        return before
    customer = Customer.from_json(row)
    await conn.execute(
        "INSERT INTO pillars (id, customer_id, name, is_default) VALUES (%s, %s, %s, true)",
        (uuid4(), customer.id, DEFAULT_PILLAR),
    )
    return customer


async def lock_shared(conn: Connection, customer_id: UUID) -> bool:
    """Locks the customer FOR SHARE, and returns whether there is such a customer.

    Until the transaction ends, the customer cannot be deleted, and its pillars cannot change. A transaction that adds a task or
    a user takes this lock first.
    """
    locked = await conn.value("SELECT id FROM customers WHERE id = %s AND deleted_at IS NULL FOR SHARE", (customer_id,))
    return locked is not None


async def is_active(conn: Connection, customer_id: UUID) -> bool:
    """Whether the customer takes new tasks, hours and timers. Read it after `lock_shared`, in a statement of its own."""
    return bool(await conn.value("SELECT active FROM customers WHERE id = %s", (customer_id,)))


async def exists(conn: Connection, customer_id: UUID) -> bool:
    """Whether there is such a customer."""
    return await conn.value("SELECT id FROM customers WHERE id = %s AND deleted_at IS NULL", (customer_id,)) is not None


async def lock(conn: Connection, customer_id: UUID, *, version: int | None = None) -> None:
    """Locks the customer. A transaction that changes or deletes it, or one of its pillars, takes this lock before locks of
    tasks.

    Raises NotFound for an unknown customer, and Conflict for a stale version.
    """
    await CUSTOMERS.lock(conn, customer_id, version)


async def change(conn: Connection, customer_id: UUID, patch: CustomerChange) -> Customer:
    """Writes the fields that were sent. Raises NotFound for an unknown customer, Conflict for a stale version."""
    before = await CUSTOMERS.lock(conn, customer_id, patch.version)
    values = sent_values(
        patch, nullable=("email", "phone", "xero_contact_id", "xero_project_id"), exclude=("rounding", "pillars")
    )
    if patch.rounding is not None:
        rule = patch.rounding.model_dump(exclude_none=True)
        values |= {f"rounding_{name}": value for name, value in rule.items()}
    if values.get("xero_project_id", before.xero_project_id) != before.xero_project_id:
        values["xero_tenant_id"] = await tenant_of(conn, values["xero_project_id"])
    if patch.pillars and not values:  # the caller changes these
        return before
    customer = await CUSTOMERS.update(conn, customer_id, values)
    if values.get("xero_project_id"):  # approved bills may have waited for it
        await outbox.enqueue(conn, QueueBills(because="mapped", customer_id=customer_id))
    return customer


async def tenant_of(conn: Connection, mapped_to: str | None) -> str | None:
    """The organisation in Xero for the new mapping of a customer or a pillar: the connected one. None: there is no mapping, or
    no organisation is connected."""
    return await conn.value("SELECT tenant_id FROM xero_connection") if mapped_to else None


async def delete(conn: Connection, customer_id: UUID, *, version: int | None) -> None:
    """Leaves tombstones of the customer and of its tasks, pillars, channel mappings and empty bills. Its users lose their
    access immediately.

    Raises NotFound for an unknown customer. Raises Conflict for a stale version, and while recorded or pending hours refer to
    the customer.
    """
    try:
        await lock(conn, customer_id, version=version)
    except NotFound:
        conn.access_changed_before = await conn.maybe("SELECT 1 FROM customers WHERE id = %s", (customer_id,)) is not None
        raise
    # not for users who have become the firm's own people since
    user_ids = await conn.values(
        """
        SELECT id FROM users
        WHERE customer_id = %s AND revoked_at IS NULL AND NOT coalesce(starts_with(role, 'internal_'), false)
        ORDER BY id FOR NO KEY UPDATE
        """,
        (customer_id,),
    )
    await conn.execute("UPDATE users SET revoked_at = now() WHERE id = ANY(%s)", (user_ids,))
    scope = DeletionScope(customer_id)
    await lock_tasks(conn, scope)
    await tombstone_empty_bills(conn, scope)
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
        # of a deleted customer its users get the tombstone, and of other customers nothing
        selection.visible_changes = lambda _: "c.id = %(own_customer)s"
    return selection


async def get(conn: Connection, customer_id: UUID, *, user: User) -> bytes:
    """The customer as JSON. Raises NotFound if there is none that this user may see."""
    return await _visible_to(user).one(conn, customer_id)


async def list_page(conn: Connection, page: Page, *, user: User) -> bytes:
    """The customers this user may see, newest first; or those that changed since the page's `since`."""
    return await _visible_to(user).page(conn, page)


async def filter_by_customer(conn: Connection, selection: Selection, customer: str) -> None:
    """Limits a selection of rows with a customer_id to one customer. `customer` is an id, or an exact name, which is compared
    as all names are (schemas/names.py).

    A name is looked up before. In one statement, Postgres would estimate the number of rows badly: for a name without rows it
    would read the whole table.
    """
    try:
        ids = [UUID(customer.strip())]
    except ValueError:
        ids = await conn.values("SELECT id FROM customers WHERE name_key(name) = name_key(%s)", (customer,))
    if len(ids) == 1:
        selection.where(f"{selection.alias}.customer_id = %(customer)s", customer=ids[0])
    else:
        selection.where(f"{selection.alias}.customer_id = ANY(%(customers)s)" if ids else "false", customers=ids)
