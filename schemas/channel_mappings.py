"""Which customer a Slack channel belongs to, and the pillar that tasks from there go to.

Whoever writes one holds the customer shared, as whoever puts a task on it does: so no channel comes to a customer that is just
being deleted.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import psycopg
from pydantic import Field

from schemas import customers
from schemas.base import Body, Name, Row, Version, json_object
from schemas.database import Connection
from schemas.errors import Conflict, Invalid, NotFound
from schemas.listing import Order, Page, Selection

ChannelId = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,40}$", description="as Slack calls it", examples=["C0123ABCD"])]


class ChannelMapping(Row):
    """A channel's customer, as answered."""

    id: UUID
    channel_id: str
    channel_name: str
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description='null: the customer\'s "General Support"')]
    created_at: datetime
    updated_at: datetime
    version: int


class NewChannelMapping(Body):
    """A mapping to create; with an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    channel_id: ChannelId
    channel_name: Annotated[Name, Field(examples=["acme-support"])]
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description="one of the customer's")] = None


class ChannelMappingChange(Body):
    """What is left out keeps its value. With another customer, a pillar that is not named is its "General Support"."""

    channel_id: ChannelId | None = None
    channel_name: Annotated[Name | None, Field(examples=["acme-support"])] = None
    customer_id: UUID | None = None
    pillar_id: Annotated[UUID | None, Field(description='one of the customer\'s; null: its "General Support"')] = None
    version: Version | None = None


async def create(conn: Connection, new: NewChannelMapping) -> ChannelMapping:
    """The new mapping. The same id with the same body gives the same mapping.

    Raises Invalid for an unknown customer or pillar, Conflict for a channel that is mapped already and an id that is taken.
    """
    if new.id is not None and (before := await _created_before(conn, new)) is not None:
        return before
    await _check(conn, new.customer_id, new.pillar_id)
    values = new.model_dump() | {"id": new.id or uuid4(), "created_from": new.fingerprint()}
    try:
        async with conn.transaction():
            cursor = await conn.execute(
                f"""
                INSERT INTO slack_channel_mappings AS m (id, channel_id, channel_name, customer_id, pillar_id, created_from)
                VALUES (%(id)s, %(channel_id)s, %(channel_name)s, %(customer_id)s, %(pillar_id)s, %(created_from)s)
                RETURNING {json_object(ChannelMapping, "m")}::text
                """.encode(),
                values,
            )
            row = await cursor.fetchone()
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != CHANNEL:  # at the same moment, by another request
            before = await _created_before(conn, new)
            assert before is not None
            return before
        raise _is_mapped() from None
    assert row is not None
    return ChannelMapping.from_json(row[0])


CHANNEL = "slack_channel_mappings_channel"


def _is_mapped() -> Conflict:
    return Conflict("This channel has a mapping already, and a channel is one customer's; change that one.")


async def change(conn: Connection, mapping_id: UUID, wanted: ChannelMappingChange) -> ChannelMapping:
    """Writes what is sent.

    Raises NotFound for an unknown mapping, Invalid for an unknown customer or pillar, Conflict for a stale version and for a
    channel that another mapping has.
    """
    sent = wanted.model_dump(include=wanted.model_fields_set - {"version"})
    values = {name: value for name, value in sent.items() if value is not None or name == "pillar_id"}
    if not values:
        raise Invalid("", "Send at least one field to change.")
    at = wanted.customer_id or await _customer_of(conn, mapping_id)
    held = await customers.hold(conn, at)  # before the mapping, as who deletes the customer takes them
    mapping = await _lock(conn, mapping_id, wanted.version)
    if wanted.customer_id is None and mapping.customer_id != at:
        raise Conflict("The mapping has changed meanwhile.", current=mapping.model_dump(mode="json"))
    if wanted.customer_id not in (None, mapping.customer_id):
        values.setdefault("pillar_id", None)
    await _check(conn, at, values.get("pillar_id"), held=held)
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    try:
        async with conn.transaction():
            cursor = await conn.execute(
                f"""
                UPDATE slack_channel_mappings m SET {assignments}, version = version + 1 WHERE id = %(id)s
                RETURNING {json_object(ChannelMapping, "m")}::text
                """.encode(),
                values | {"id": mapping_id},
            )
            row = await cursor.fetchone()
    except psycopg.errors.UniqueViolation:
        raise _is_mapped() from None
    assert row is not None
    return ChannelMapping.from_json(row[0])


async def delete(conn: Connection, mapping_id: UUID, *, version: int | None) -> None:
    """Leaves a tombstone. Raises NotFound for an unknown mapping, Conflict for a stale version."""
    await _lock(conn, mapping_id, version)
    await conn.execute(
        "UPDATE slack_channel_mappings SET deleted_at = now(), version = version + 1 WHERE id = %s", (mapping_id,)
    )


async def rename_channel(conn: Connection, channel_id: str, name: str) -> None:
    """Slack says that the channel has another name."""
    await conn.execute(
        """
        UPDATE slack_channel_mappings SET channel_name = %s, version = version + 1
        WHERE channel_id = %s AND channel_name <> %s AND deleted_at IS NULL
        """,
        (name, channel_id, name),
    )


async def list_page(conn: Connection, page: Page) -> bytes:
    """All mappings, newest first."""
    selection = Selection("mapping", ChannelMapping, "slack_channel_mappings", "m", Order("created_at", "timestamptz"))
    selection.where("m.deleted_at IS NULL")
    return await selection.page(conn, page)


async def _customer_of(conn: Connection, mapping_id: UUID) -> UUID:
    cursor = await conn.execute(
        "SELECT customer_id FROM slack_channel_mappings WHERE id = %s AND deleted_at IS NULL", (mapping_id,)
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such mapping.")
    found: UUID = row[0]
    return found


async def _lock(conn: Connection, mapping_id: UUID, version: int | None) -> ChannelMapping:
    cursor = await conn.execute(
        f"""
        SELECT {json_object(ChannelMapping, "m")}::text FROM slack_channel_mappings m
        WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """.encode(),
        (mapping_id,),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such mapping.")
    mapping = ChannelMapping.from_json(row[0])
    if version is not None and version != mapping.version:
        raise Conflict("The mapping has changed since you read it.", current=mapping.model_dump(mode="json"))
    return mapping


async def _check(conn: Connection, customer_id: UUID, pillar_id: Any, *, held: bool | None = None) -> None:
    if not (await customers.hold(conn, customer_id) if held is None else held):
        raise Invalid("customerId", "There is no such customer; GET /api/customers lists them.")
    if pillar_id is None:
        return
    cursor = await conn.execute(
        "SELECT active FROM pillars WHERE id = %s AND customer_id = %s AND deleted_at IS NULL", (pillar_id, customer_id)
    )
    if (row := await cursor.fetchone()) is None:
        raise Invalid("pillarId", "The customer has no such pillar; leave it out for General Support.")
    if not row[0]:
        raise Invalid("pillarId", "This pillar is inactive: no more work is put on it; name another, or leave it out.")


async def _created_before(conn: Connection, new: NewChannelMapping) -> ChannelMapping | None:
    """The mapping that an earlier request with this id and body made, if any. Raises Conflict when the body was another."""
    cursor = await conn.execute(
        f"""
        SELECT {json_object(ChannelMapping, "m")}::text, created_from = %s AND deleted_at IS NULL
        FROM slack_channel_mappings m WHERE id = %s
        """.encode(),
        (new.fingerprint(), new.id),
    )
    row = await cursor.fetchone()
    if row is not None and not row[1]:
        raise Conflict("Another mapping has this id; take a new one.")
    return ChannelMapping.from_json(row[0]) if row is not None else None
