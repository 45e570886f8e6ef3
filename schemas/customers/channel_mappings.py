"""Channel mappings: which customer a Slack channel belongs to, and the pillar of tasks that are created there.

Writing a mapping locks the customer FOR SHARE, so that no channel can be mapped to a customer that is being deleted at the same
time.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import psycopg
from pydantic import Field

from schemas.base import Body, Name, Row, Version, json_object
from schemas.customers import customers
from schemas.errors import Conflict, Invalid, NotFound
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import NewRow, VersionedTable, sent_values

ChannelId = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,40}$", description="the channel's id in Slack", examples=["C0123ABCD"])]


class ChannelMapping(Row):
    """A channel's mapping, as the API returns it."""

    id: UUID
    channel_id: str
    channel_name: str
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description='null: the customer\'s "General Support"')]
    archived: Annotated[bool, Field(description="Slack has archived or deleted the channel: nothing is posted there")]
    created_at: datetime
    updated_at: datetime
    version: int


class NewChannelMapping(NewRow):
    """A mapping to create. If you choose the `id`, the request can be repeated safely."""

    channel_id: ChannelId
    channel_name: Annotated[Name, Field(examples=["acme-support"])]
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description="one of the customer's")] = None


class ChannelMappingChange(Body):
    """Fields that are left out keep their values. With another customer, the default pillar is its "General Support"."""

    channel_id: ChannelId | None = None
    channel_name: Annotated[Name | None, Field(examples=["acme-support"])] = None
    customer_id: UUID | None = None
    pillar_id: Annotated[UUID | None, Field(description='one of the customer\'s; null: its "General Support"')] = None
    version: Version | None = None


MAPPINGS = VersionedTable("channel mapping", ChannelMapping, "slack_channel_mappings")
CHANNEL_IS_UNIQUE = "slack_channel_mappings_channel"  # the index


async def create(conn: Connection, body: NewChannelMapping) -> ChannelMapping:
    """The new mapping. The same id with the same body returns the same mapping.

    Raises Invalid for an unknown customer or pillar, Conflict for a channel that has a mapping and for an id that is taken.
    """
    if (before := await MAPPINGS.created_before(conn, body)) is not None:
        return before
    await _check_customer_and_pillar(conn, body.customer_id, body.pillar_id)
    values = body.model_dump() | {"id": body.id or uuid4(), "created_from": body.fingerprint()}
    try:
        async with conn.transaction():
            row = await conn.value(
                f"""
                INSERT INTO slack_channel_mappings AS m (id, channel_id, channel_name, customer_id, pillar_id, created_from)
                VALUES (%(id)s, %(channel_id)s, %(channel_name)s, %(customer_id)s, %(pillar_id)s, %(created_from)s)
                RETURNING {json_object(ChannelMapping, "m")}::text
                """,
                values,
            )
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name == CHANNEL_IS_UNIQUE:
            raise _has_mapping() from None
        before = await MAPPINGS.created_before(conn, body)  # a concurrent request created it
        assert before is not None, "rows are never removed"
        return before
    return ChannelMapping.from_json(row)


def _has_mapping() -> Conflict:
    return Conflict("This channel has a mapping already, and can have only one; change that one.")


async def change(conn: Connection, mapping_id: UUID, patch: ChannelMappingChange) -> ChannelMapping:
    """Writes the fields that were sent.

    Raises NotFound for an unknown mapping, Invalid for an unknown customer or pillar, Conflict for a stale version and for a
    channel that has another mapping.
    """
    values = sent_values(patch, nullable=("pillar_id",))
    if not values:
        raise Invalid("", "Send at least one field to change.")
    customer_id = patch.customer_id or await _customer_of(conn, mapping_id)
    # before the mapping, because deleting a customer takes the locks in that order
    is_locked = await customers.lock_shared(conn, customer_id)
    mapping = await MAPPINGS.lock(conn, mapping_id, patch.version)
    if patch.customer_id is None and mapping.customer_id != customer_id:
        raise Conflict("The mapping has changed meanwhile.", current=mapping.model_dump(mode="json"))
    if patch.customer_id not in (None, mapping.customer_id):
        values.setdefault("pillar_id", None)
    if patch.channel_id not in (None, mapping.channel_id):
        values |= {"archived": False, "archive_event_at": None, "name_event_at": None}  # those of the other channel
    stays = customer_id == mapping.customer_id
    await _check_customer_and_pillar(conn, customer_id, values.get("pillar_id"), is_locked=is_locked, stays=stays)
    try:
        async with conn.transaction():
            return await MAPPINGS.update(conn, mapping_id, values)
    except psycopg.errors.UniqueViolation:
        raise _has_mapping() from None


async def delete(conn: Connection, mapping_id: UUID, *, version: int | None) -> None:
    """Leaves a tombstone. Raises NotFound for an unknown mapping, Conflict for a stale version."""
    await MAPPINGS.lock(conn, mapping_id, version)
    await conn.execute(
        "UPDATE slack_channel_mappings SET deleted_at = now(), version = version + 1 WHERE id = %s", (mapping_id,)
    )


async def rename_channel(conn: Connection, channel_id: str, name: str, *, at: datetime | None) -> None:
    """Records a new name of the channel, if it has a mapping. `at` is the time of Slack's event, if it has one; an event that
    is older than the last is ignored."""
    await conn.execute(
        """
        UPDATE slack_channel_mappings
        SET channel_name = %(name)s, name_event_at = coalesce(%(at)s::timestamptz, now()),
            version = version + (channel_name <> %(name)s)::integer
        WHERE channel_id = %(channel)s AND coalesce(name_event_at <= %(at)s::timestamptz, true) AND deleted_at IS NULL
        """,
        {"channel": channel_id, "name": name, "at": at},
    )


async def set_archived(conn: Connection, channel_id: str, *, archived: bool, at: datetime | None) -> None:
    """Records that Slack has archived or deleted the channel, or the opposite, if it has a mapping. `at` is the time of Slack's
    event, if it has one; an event that is older than the last is ignored."""
    await conn.execute(
        """
        UPDATE slack_channel_mappings
        SET archived = %(archived)s, archive_event_at = coalesce(%(at)s::timestamptz, now()),
            version = version + (archived <> %(archived)s)::integer
        WHERE channel_id = %(channel)s AND coalesce(archive_event_at <= %(at)s::timestamptz, true) AND deleted_at IS NULL
        """,
        {"channel": channel_id, "archived": archived, "at": at},
    )


async def change_channel_id(conn: Connection, channel_id: str, new_id: str, *, at: datetime | None) -> None:
    """Moves the channel's mapping, if it has one, to the channel's new id in Slack. If the new id is mapped already, that
    mapping stays, and the one of the old id becomes archived."""
    try:
        async with conn.transaction():
            await conn.execute(
                """
                UPDATE slack_channel_mappings SET channel_id = %s, version = version + 1
                WHERE channel_id = %s AND channel_id <> %s AND deleted_at IS NULL
                """,
                (new_id, channel_id, new_id),
            )
    except psycopg.errors.UniqueViolation:
        await set_archived(conn, channel_id, archived=True, at=at)


async def list_page(conn: Connection, page: Page) -> bytes:
    """All mappings, newest first."""
    selection = Selection("mapping", ChannelMapping, "slack_channel_mappings", "m", Order("created_at", "timestamptz"))
    selection.where("m.deleted_at IS NULL")
    return await selection.page(conn, page)


@dataclass(frozen=True)
class CustomersChannel:
    """A channel, and the customer that it belongs to."""

    id: UUID
    channel_name: str
    archived: bool
    customer_id: UUID
    customer_name: str


async def with_customers(conn: Connection) -> list[CustomersChannel]:
    """The channels by name, with their customers: at most 1,000."""
    return await conn.all(
        """
        SELECT m.id, m.channel_name, m.archived, m.customer_id, c.name AS customer_name
        FROM slack_channel_mappings m JOIN customers c ON c.id = m.customer_id
        WHERE m.deleted_at IS NULL ORDER BY m.channel_name, m.id LIMIT 1000
        """,
        row=CustomersChannel,
    )


async def of_customer(conn: Connection, customer_id: UUID) -> list[ChannelMapping]:
    """The customer's mappings by the name of their channel: at most 200."""
    rows = await conn.values(
        f"""
        SELECT {json_object(ChannelMapping, "m")}::text FROM slack_channel_mappings m
        WHERE m.customer_id = %s AND m.deleted_at IS NULL ORDER BY m.channel_name, m.id LIMIT 200
        """,
        (customer_id,),
    )
    return [ChannelMapping.from_json(row) for row in rows]


async def mapped_ids(conn: Connection, channel_ids: list[str]) -> frozenset[str]:
    """Those of the channels that have a mapping, by their ids in Slack."""
    return frozenset(
        await conn.values(
            "SELECT channel_id FROM slack_channel_mappings WHERE channel_id = ANY(%s) AND deleted_at IS NULL", (channel_ids,)
        )
    )


async def _customer_of(conn: Connection, mapping_id: UUID) -> UUID:
    customer_id: UUID | None = await conn.value(
        "SELECT customer_id FROM slack_channel_mappings WHERE id = %s AND deleted_at IS NULL", (mapping_id,)
    )
    if customer_id is None:
        raise NotFound("There is no such channel mapping.")
    return customer_id


async def _check_customer_and_pillar(
    conn: Connection, customer_id: UUID, pillar_id: UUID | None, *, is_locked: bool | None = None, stays: bool = False
) -> None:
    """Raises Invalid for an unknown or inactive customer or pillar; `stays`: the mapping has this customer already, which may
    have become inactive. Locks the customer FOR SHARE, unless the caller did and passes the result as `is_locked`."""
    if is_locked is None:
        is_locked = await customers.lock_shared(conn, customer_id)
    if not is_locked:
        raise Invalid("customerId", "There is no such customer; GET /api/customers lists them.")
    if not stays and not await customers.is_active(conn, customer_id):
        raise Invalid("customerId", "This customer is inactive and takes no new tasks; choose another one, or make it active.")
    if pillar_id is None:
        return
    is_active = await conn.value(
        "SELECT active FROM pillars WHERE id = %s AND customer_id = %s AND deleted_at IS NULL", (pillar_id, customer_id)
    )
    if is_active is None:
        raise Invalid("pillarId", "The customer has no such pillar; leave it out for General Support.")
    if not is_active:
        raise Invalid("pillarId", "This pillar is inactive and takes no new tasks; choose another one, or leave it out.")
