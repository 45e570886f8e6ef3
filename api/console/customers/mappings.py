"""Which Slack channels belong to a customer (`slack.py` adds one), and the customer's mapping to Xero (`xero.py`)."""

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_internal
from api.console.customers.shared import (
    BASE,
    FormVersion,
    VersionForm,
    change_page,
    customer_path,
    pillar_choices,
    read_customer,
    read_pillars,
)
from api.console.forms import Form, FormModel, read_form
from api.console.gone import gone_if_missing
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from schemas.base import Name
from schemas.customers import channel_mappings
from schemas.customers.channel_mappings import ChannelMapping, ChannelMappingChange
from schemas.errors import NotFound
from schemas.postgres.connection import Connection
from schemas.xero import choices

PATH = f"{BASE}/{{customer_id:str}}/mappings"


class ChannelForm(FormModel):
    """What a mapping becomes."""

    UNSEEN = frozenset({"version"})

    channel_name: Name
    pillar_id: UUID | None = None
    version: FormVersion


@get(PATH, guards=[require_internal])
async def show_mappings(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The mapping to Xero as it is stored, and the channels."""
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user)
        pillars = await read_pillars(conn, customer_id, request.user)
        channels = await channel_mappings.of_customer(conn, customer_id)
        names = await choices.names_of(conn, [customer.xero_project_id, *(pillar.xero_task_id for pillar in pillars)])
    values: dict[str, Any] = {"customer": customer, "pillars": pillars, "channels": channels, "names": names}
    return page(request, "customers/mappings.html", **values)


@get(f"{PATH}/channels/{{mapping_id:str}}", guards=[require_internal])
async def show_channel(request: ApiRequest, customer_id: FromPath[UUID], mapping_id: FromPath[UUID]) -> Response[bytes]:
    """The form of one channel."""
    return await _channel_page(request, customer_id, mapping_id)


@post(f"{PATH}/channels/{{mapping_id:str}}", guards=[require_internal], status_code=303)
async def change_channel(request: ApiRequest, customer_id: FromPath[UUID], mapping_id: FromPath[UUID]) -> Response[bytes]:
    """Writes the name and the pillar, unless the mapping has changed since it was shown."""
    form = await read_form(request, ChannelForm)
    if form.value is not None:
        sent = form.value
        change = ChannelMappingChange.model_validate(
            {"channelName": sent.channel_name, "pillarId": sent.pillar_id, "version": sent.version}
        )
        with form.catching():
            async with request.database.transaction() as conn:
                await _read_channel(conn, customer_id, mapping_id)
                changed = await channel_mappings.change(conn, mapping_id, change)
            return redirect(customer_path(customer_id, "/mappings"), f"Saved #{changed.channel_name}.")
    return await _channel_page(request, customer_id, mapping_id, form=form)


@post(f"{PATH}/channels/{{mapping_id:str}}/delete", guards=[require_internal], status_code=303)
async def delete_channel(request: ApiRequest, customer_id: FromPath[UUID], mapping_id: FromPath[UUID]) -> Response[bytes]:
    """Ends the mapping, unless it has changed since it was shown."""
    form = await read_form(request, VersionForm)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                await _read_channel(conn, customer_id, mapping_id)
                await channel_mappings.delete(conn, mapping_id, version=form.value.version)
            return redirect(customer_path(customer_id, "/mappings"), "The channel belongs to no customer now.")
    return await _channel_page(request, customer_id, mapping_id, removal=form)


async def _read_channel(conn: Connection, customer_id: UUID, mapping_id: UUID) -> ChannelMapping:
    """The mapping. Raises NotFound if it is not, or no longer, one of this customer."""
    for mapping in await channel_mappings.of_customer(conn, customer_id):
        if mapping.id == mapping_id:
            return mapping
    raise NotFound("This customer has no such channel; it may have moved to another one.")


async def _channel_page(
    request: ApiRequest,
    customer_id: UUID,
    mapping_id: UUID,
    *,
    form: Form[Any] | None = None,
    removal: Form[VersionForm] | None = None,
) -> Response[bytes]:
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, form)
        with gone_if_missing("channel", customer_path(customer_id, "/mappings"), "the channels", form):
            channel = await _read_channel(conn, customer_id, mapping_id)
        pillars = await read_pillars(conn, customer_id, request.user)
    values: dict[str, Any] = {"customer": customer, "channel": channel}
    values["pillar_choices"] = pillar_choices(pillars, channel.pillar_id)
    return change_page(request, "customers/channel.html", form, removal, **values)
