"""Adding a channel to a customer: chosen from what Slack lists now, or typed while Slack's list cannot be shown."""

from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_internal
from api.console.customers.mappings import PATH as MAPPINGS
from api.console.customers.shared import customer_path, pillar_choices, read_customer, read_pillars
from api.console.forms import Form, FormModel, form_pairs, read_pairs
from api.console.pages import fragment, is_htmx, page, redirect
from api.console.sessions import CSRF_FIELD
from api.dependencies import ApiRequest
from schemas.base import Name
from schemas.customers import channel_mappings
from schemas.customers.channel_mappings import ChannelId, NewChannelMapping
from schemas.errors import Invalid
from schemas.slack.channels import choices
from schemas.slack.channels.choices import Choices
from schemas.slack.channels.listing import Channel

PATH = f"{MAPPINGS}/channels"
CHOSEN = "channel"  # the field with the channel that was chosen; a form in which one is typed has no such field
NOT_LISTED = "Slack does not list this channel any more. Choose another one."
NO_NAME = "Slack's channels cannot be listed now, so the name of this one is not known. Type it, or try again in a moment."


class NewChannelForm(FormModel):
    """A channel that belongs to the customer from now on."""

    pillar_id: UUID | None = None


class ChosenChannelForm(NewChannelForm):
    """One of those that Slack lists; its name is what Slack says."""

    channel: ChannelId


class TypedChannelForm(NewChannelForm):
    """One that a person has typed."""

    channel_id: ChannelId
    channel_name: Name


@get(PATH, guards=[require_internal])
async def show_choices(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The form to add a channel: a page, or the part of it that htmx asks for."""
    return await _choices_page(request, customer_id, Form(), await _read_choices(request))


@post(PATH, guards=[require_internal], status_code=303)
async def add_channel(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Assigns a channel to the customer."""
    pairs = [pair for pair in await form_pairs(request) if pair[0] != CSRF_FIELD]
    model: type[NewChannelForm] = ChosenChannelForm if CHOSEN in dict(pairs) else TypedChannelForm
    form, found = read_pairs(pairs, model), await _read_choices(request)
    if form.value is not None:
        sent = form.value
        with form.catching():
            channel = _channel(sent, found)
            body = NewChannelMapping.model_validate(
                {
                    "channelId": channel.id,
                    "channelName": channel.name,
                    "customerId": customer_id,
                    "pillarId": sent.pillar_id,
                }
            )
            async with request.database.transaction() as conn:
                made = await channel_mappings.create(conn, body)
            return redirect(customer_path(customer_id, "/mappings"), f"#{made.channel_name} belongs to this customer now.")
    return await _choices_page(request, customer_id, form, found, status=422)


def _channel(sent: NewChannelForm, found: Choices) -> Channel:
    """The channel of the form. Raises Invalid for one that cannot be chosen any more."""
    if isinstance(sent, TypedChannelForm):
        return Channel(id=sent.channel_id, name=sent.channel_name)
    assert isinstance(sent, ChosenChannelForm)
    if found.problem:
        raise Invalid(CHOSEN, NO_NAME)
    channel = next((channel for channel in found.channels if channel.id == sent.channel), None)
    if channel is None:
        raise Invalid(CHOSEN, NOT_LISTED)
    if channel.id in found.mapped:
        raise Invalid(CHOSEN, f"#{channel.name} belongs to a customer already. Choose another one.")
    return channel


async def _read_choices(request: ApiRequest) -> Choices:
    return await choices.read(request.database, request.settings, request.responder.slack)


async def _choices_page(
    request: ApiRequest, customer_id: UUID, form: Form[NewChannelForm], found: Choices, *, status: int = 200
) -> Response[bytes]:
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, form)
        pillars = await read_pillars(conn, customer_id, request.user)
    fields = {"channel_id", "channel_name"} if found.problem else {CHOSEN} if found.free else set[str]()
    form.leave_out(*(form.errors.keys() - fields - {"pillar_id"}))
    values = {"customer": customer, "form": form, "choices": found, "pillar_choices": pillar_choices(pillars)}
    values["channels"] = [(channel.id, f"#{channel.name}") for channel in found.free]
    if is_htmx(request):
        return fragment(request, "customers/slack/choices.html", status=status, **values)
    return page(request, "customers/slack.html", status=status, **values)
