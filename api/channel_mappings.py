"""Which Slack channel belongs to which customer."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.answers import Cursor, Limit, Listed, SeenVersion, json_answer
from api.auth import internal
from api.dependencies import TheDatabase
from schemas import channel_mappings
from schemas.channel_mappings import ChannelMapping, ChannelMappingChange, NewChannelMapping
from schemas.listing import Page


@get("/api/slack/channel-mappings", summary="List channel mappings", guards=[internal])
async def list_channel_mappings(
    database: TheDatabase, limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Listed[ChannelMapping]]:
    """Which Slack channels belong to which customers, newest first."""
    async with database.connection() as conn:
        return json_answer(await channel_mappings.list_page(conn, Page(limit, page_cursor)))


@post("/api/slack/channel-mappings", summary="Create a channel mapping", guards=[internal])
async def create_channel_mapping(database: TheDatabase, data: JSONBody[NewChannelMapping]) -> ChannelMapping:
    """Gives a channel to a customer: what comes from there is preset to it, and what Stint shows there is that customer's only.
    A channel that has a mapping is 409. With an `id` of your own, repeating the request gives the same answer."""
    async with database.transaction() as conn:
        return await channel_mappings.create(conn, data)


@put("/api/slack/channel-mappings/{mapping_id:uuid}", summary="Update a channel mapping", guards=[internal])
async def change_channel_mapping(
    database: TheDatabase, mapping_id: FromPath[UUID], data: JSONBody[ChannelMappingChange]
) -> ChannelMapping:
    """Writes the fields that are sent. A stale `version` is 409 with `current`; a channel that another mapping has, too."""
    async with database.transaction() as conn:
        return await channel_mappings.change(conn, mapping_id, data)


@delete("/api/slack/channel-mappings/{mapping_id:uuid}", summary="Delete a channel mapping", guards=[internal])
async def delete_channel_mapping(database: TheDatabase, mapping_id: FromPath[UUID], version: SeenVersion = None) -> None:
    """Deletes the mapping: the channel is nobody's from now on, and nothing is shown there publicly."""
    async with database.transaction() as conn:
        await channel_mappings.delete(conn, mapping_id, version=version)
