"""Routes for channel mappings: which Slack channel belongs to which customer."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.responses import Listed, SeenVersion, created, json_response
from schemas.customers import channel_mappings
from schemas.customers.channel_mappings import ChannelMapping, ChannelMappingChange, NewChannelMapping


@get("/api/slack/channel-mappings", summary="List channel mappings", guards=[require_internal])
async def list_channel_mappings(request: ApiRequest, page: ThePage) -> Response[Listed[ChannelMapping]]:
    """Which Slack channels belong to which customers, newest first."""
    async with request.database.connection() as conn:
        return json_response(await channel_mappings.list_page(conn, page))


@post("/api/slack/channel-mappings", summary="Create a channel mapping", guards=[require_internal])
async def create_channel_mapping(request: ApiRequest, data: JSONBody[NewChannelMapping]) -> Response[ChannelMapping]:
    """Assigns a channel to a customer: tasks from there are preset to the customer, and Stint posts only that customer's data
    there. A channel that has a mapping is 409. If you choose the `id`, repeating the request gives the same answer."""
    async with request.database.transaction() as conn:
        mapping = await channel_mappings.create(conn, data)
    return created(mapping, f"/api/slack/channel-mappings/{mapping.id}")


@put("/api/slack/channel-mappings/{mapping_id:str}", summary="Update a channel mapping", guards=[require_internal])
async def change_channel_mapping(
    request: ApiRequest, mapping_id: FromPath[UUID], data: JSONBody[ChannelMappingChange]
) -> ChannelMapping:
    """Writes the fields that you send. A stale `version` is 409 with `current`; a channel with another mapping is 409, too."""
    async with request.database.transaction() as conn:
        return await channel_mappings.change(conn, mapping_id, data)


@delete("/api/slack/channel-mappings/{mapping_id:str}", summary="Delete a channel mapping", guards=[require_internal])
async def delete_channel_mapping(request: ApiRequest, mapping_id: FromPath[UUID], version: SeenVersion = None) -> None:
    """Deletes the mapping. From now on the channel belongs to no customer, and Stint posts nothing there publicly."""
    async with request.database.transaction() as conn:
        await channel_mappings.delete(conn, mapping_id, version=version)
