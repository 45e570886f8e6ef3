"""Pillars: the areas of work agreed with a customer.

Whoever writes one holds the customer's row (`customers.lock`), whoever puts a task on one holds it shared: so no task comes
onto a pillar that is just being deleted or made inactive.

The default pillar came with its customer. It may have another name, but is always there and active: tasks for which nobody
names a pillar go there, and those of a pillar that is deleted.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import Field

from schemas import customers, ledger, mails
from schemas.base import Body, Flag, Name, Row, Version, json_object
from schemas.database import Connection
from schemas.errors import Conflict, Invalid, NotFound
from schemas.listing import Order, Page, Selection
from schemas.moving import move_tasks
from schemas.references import Area, bury_empty_bills, hold_tasks
from schemas.users import CONSULTANT, INTERNAL, User


class Pillar(Row):
    """A pillar, as answered."""

    id: UUID
    customer_id: UUID
    name: Annotated[str, Field(examples=["Hosting"])]
    active: Annotated[bool, Field(description="no new work is put on an inactive one; what is there stays")]
    is_default: Annotated[bool, Field(description="where tasks go for which nobody names a pillar")]
    xero_task_id: str | None
    slack_channel_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int


XeroId = Annotated[str, Field(max_length=100)]
SlackId = Annotated[str, Field(max_length=100)]


class NewPillar(Body):
    """A pillar to create; with an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    name: Annotated[Name, Field(description="the customer's only one of that name, in any case", examples=["Hosting"])]
    active: Flag = True
    xero_task_id: XeroId | None = None
    slack_channel_id: SlackId | None = None


class PillarChange(Body):
    """What is left out keeps its value; null clears the ids in Xero and Slack."""

    name: Annotated[Name | None, Field(examples=["Hosting"])] = None
    active: Flag | None = None
    xero_task_id: XeroId | None = None
    slack_channel_id: SlackId | None = None
    version: Version | None = None


async def create(conn: Connection, customer_id: UUID, new: NewPillar) -> Pillar:
    """The new pillar. The same id with the same body gives the same pillar.

    Raises NotFound for an unknown customer, Conflict for a name that another of its pillars has, and for an id that is taken.
    """
    await customers.lock(conn, customer_id)
    if new.id is not None and (before := await _created_before(conn, customer_id, new)) is not None:
        return before
    await _refuse_taken(conn, customer_id, new.name)
    cursor = await conn.execute(
        f"""
        INSERT INTO pillars AS p (id, customer_id, name, active, xero_task_id, slack_channel_id, created_from)
        VALUES (%(id)s, %(customer)s, %(name)s, %(active)s, %(xero_task_id)s, %(slack_channel_id)s, %(fingerprint)s)
        ON CONFLICT (id) DO NOTHING RETURNING {json_object(Pillar, "p")}::text
        """.encode(),
        new.model_dump() | {"id": new.id or uuid4(), "customer": customer_id, "fingerprint": new.fingerprint()},
    )
    if (row := await cursor.fetchone()) is None:  # another customer's, made at the same moment
        raise _id_is_taken()
    return Pillar.from_json(row[0])


async def change(
    conn: Connection, customer_id: UUID, pillar_id: UUID, wanted: PillarChange, *, by: User, legacy: bool
) -> Pillar:
    """Writes what is sent. Making it inactive promises a mail to each of the firm's own people; with
    `legacy`, where an absent role can mean admin, those too who signed in without one.

    Raises NotFound for an unknown pillar, Conflict for a stale version, a name that another of the customer's pillars has, and
    for making the default pillar inactive.
    """
    await customers.lock(conn, customer_id)
    pillar = await _read(conn, customer_id, pillar_id, wanted.version)
    sent = wanted.model_dump(include=wanted.model_fields_set - {"version"})
    values = {name: value for name, value in sent.items() if value is not None or name in ("xero_task_id", "slack_channel_id")}
    if not values:
        raise Invalid("", "Send at least one field to change.")
    if wanted.name is not None:
        await _refuse_taken(conn, customer_id, wanted.name, beside=pillar_id)
    if pillar.active and wanted.active is False:
        return await _inactivate(conn, pillar, values, by=by, legacy=legacy)
    return await _write(conn, pillar_id, values)


async def _inactivate(conn: Connection, pillar: Pillar, values: dict[str, Any], *, by: User, legacy: bool) -> Pillar:
    """Writes the values to an active pillar, and makes it inactive: the only way there, taken once per inactivation, whose name
    is (id, version) of what it returns. Whoever is to hear of it is sent a message here, in the same transaction."""
    if pillar.is_default:
        raise Conflict("Tasks for which nobody names a pillar go to this one, so it stays active; make another inactive.")
    written = await _write(conn, pillar.id, values)
    await _tell_everybody(conn, written, by=by, legacy=legacy)
    return written


async def _tell_everybody(conn: Connection, pillar: Pillar, *, by: User, legacy: bool) -> None:
    """A message for each of the firm's own people who have access, whoever made the change among them. Its customer is held:
    of two requests at once, only one finds the pillar active."""
    cursor = await conn.execute(
        f"""
        SELECT min(u.email), c.name FROM users u, customers c
        WHERE c.id = %s AND {CONSULTANT if legacy else INTERNAL} AND u.email <> '' AND u.revoked_at IS NULL
        GROUP BY lower(u.email), c.name ORDER BY lower(u.email)
        """.encode(),
        (pillar.customer_id,),
    )
    letters = [
        mails.pillar_inactivated(to=email, pillar=pillar.name, customer=customer, by=by.name or by.email)
        for email, customer in await cursor.fetchall()
    ]
    await ledger.put_all(conn, letters, created_by=by.id)


async def _write(conn: Connection, pillar_id: UUID, values: dict[str, Any]) -> Pillar:
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    cursor = await conn.execute(
        f"""
        UPDATE pillars p SET {assignments}, version = version + 1 WHERE id = %(id)s
        RETURNING {json_object(Pillar, "p")}::text
        """.encode(),
        values | {"id": pillar_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Pillar.from_json(row[0])


async def delete(conn: Connection, customer_id: UUID, pillar_id: UUID, *, version: int | None, by: User) -> None:
    """Leaves a tombstone, and moves the pillar's tasks to the customer's default pillar.

    Raises NotFound for an unknown pillar, Conflict for a stale version, for the default pillar, and while hours, or a promise
    of some, refer to it.
    """
    await customers.lock(conn, customer_id)
    pillar = await _read(conn, customer_id, pillar_id, version)
    if pillar.is_default:
        raise Conflict("Tasks for which nobody names a pillar go to this one, so it can't be deleted; it can be renamed.")
    area = Area(customer_id, pillar_id)
    task_ids = await hold_tasks(conn, area)
    await bury_empty_bills(conn, area)
    cursor = await conn.execute("SELECT id FROM pillars WHERE customer_id = %s AND is_default", (customer_id,))
    default = await cursor.fetchone()
    assert default is not None, "every customer has one"
    await move_tasks(conn, task_ids, to=default[0], by=by.id)
    await conn.execute("UPDATE pillars SET deleted_at = now(), version = version + 1 WHERE id = %s", (pillar_id,))


async def _read(conn: Connection, customer_id: UUID, pillar_id: UUID, version: int | None) -> Pillar:
    """The pillar of a customer that is held, if it is still of that version."""
    cursor = await conn.execute(
        f"""
        SELECT {json_object(Pillar, "p")}::text FROM pillars p WHERE id = %s AND customer_id = %s AND deleted_at IS NULL
        """.encode(),
        (pillar_id, customer_id),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("The customer has no such pillar.")
    pillar = Pillar.from_json(row[0])
    if version is not None and version != pillar.version:
        raise Conflict("The pillar has changed since you read it.", current=pillar.model_dump(mode="json"))
    return pillar


async def _refuse_taken(conn: Connection, customer_id: UUID, name: str, *, beside: UUID | None = None) -> None:
    cursor = await conn.execute(
        """
        SELECT id FROM pillars
        WHERE customer_id = %s AND lower(name) = lower(%s) AND deleted_at IS NULL AND id IS DISTINCT FROM %s
        """,
        (customer_id, name, beside),
    )
    if (row := await cursor.fetchone()) is not None:
        raise Conflict("Another pillar of this customer has this name.", pillarId=str(row[0]))


async def _created_before(conn: Connection, customer_id: UUID, new: NewPillar) -> Pillar | None:
    """The pillar that an earlier request with this id and body made, if any. Raises Conflict when the body was another."""
    cursor = await conn.execute(
        f"""
        SELECT {json_object(Pillar, "p")}::text, coalesce(created_from = %s, false) AND customer_id = %s AND deleted_at IS NULL
        FROM pillars p WHERE id = %s
        """.encode(),
        (new.fingerprint(), customer_id, new.id),
    )
    row = await cursor.fetchone()
    if row is not None and not row[1]:
        raise _id_is_taken()
    return Pillar.from_json(row[0]) if row is not None else None


def _id_is_taken() -> Conflict:
    return Conflict("Another pillar has this id; take a new one.")


def _of(customer_id: UUID) -> Selection:
    selection = Selection("pillar", Pillar, "pillars", "p", Order("created_at", "timestamptz"))
    selection.where("p.deleted_at IS NULL AND p.customer_id = %(customer)s", customer=customer_id)
    return selection


async def get(conn: Connection, customer_id: UUID, pillar_id: UUID, *, user: User) -> bytes:
    """The pillar as JSON. Raises NotFound when the customer has none such, or is not this user's to see."""
    selection = _of(customer_id)
    if not user.is_internal:
        selection.where("p.customer_id = %(own_customer)s", own_customer=user.customer_id)
    return await selection.one(conn, pillar_id)


async def list_page(conn: Connection, customer_id: UUID, page: Page, *, user: User) -> bytes:
    """The customer's pillars, newest first. Raises Invalid for a cursor that is none of ours, NotFound when the customer is not
    there, or not this user's to see."""
    answer = await _of(customer_id).page(conn, page)
    await customers.get(conn, customer_id, user=user)
    return answer
