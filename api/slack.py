"""Slack's two ways in. Nothing is read of a request that Slack has not signed."""

from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, post
from pydantic import TypeAdapter, ValidationError

from api import slack_commands, slack_events, slack_interactions
from api.dependencies import TheDesk
from api.docs import a_problem
from api.problems import BadRequest
from api.requests import UNSTORABLE, StrictRequest, read_json
from api.slack_desk import Desk, nothing
from schemas.clients.slack import is_answerable, is_signed
from schemas.slack_payloads import EVENT, INTERACTION, Challenge, Command, EventCallback

PUBLIC = {"exclude_from_auth": True}
UNSIGNED = {401: a_problem(401)}
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
COMMAND = TypeAdapter(Command)


@post("/api/slack/events", summary="Take in commands and events of Slack's", opt=PUBLIC, status_code=200, responses=UNSIGNED)
async def receive_event(request: StrictRequest, desk: TheDesk) -> Response[Any]:
    """For Slack alone: the slash command `/task` (a form) and event subscriptions (JSON), signed with the app's signing secret
    within the last 5 minutes; anything else is 401. A command is answered within 3 seconds whatever is down, with an apology if
    it must be; a failing event is 503, so that Slack sends it again."""
    body = await _signed_body(request, desk)
    content_type, _ = request.content_type
    if content_type == JSON:
        event = _read(EVENT, read_json(body))
        match event:
            case Challenge():
                return Response({"challenge": event.challenge}, status_code=200)
            case EventCallback():
                return await slack_events.receive(desk, event)
            case _:
                return nothing()
    form = _read_form(body, content_type)
    if form.get("ssl_check") == "1":
        return nothing()
    command: Command = _read(COMMAND, form)
    _check_response_url(command.response_url, desk)
    return await slack_commands.answer(desk, command)


@post("/api/slack/interactivity", summary="Take in what people do in Slack", opt=PUBLIC, status_code=200, responses=UNSIGNED)
async def receive_interaction(request: StrictRequest, desk: TheDesk) -> Response[Any]:
    """For Slack alone: forms that were sent, buttons that were pressed, lists to pick from, and the message action "Create
    task", signed as above. Each has its effect once, however often it is sent, and is answered within 3 seconds."""
    body = await _signed_body(request, desk)
    content_type, _ = request.content_type
    form = _read_form(body, content_type)
    if form.get("ssl_check") == "1":
        return nothing()
    interaction = _read(INTERACTION, read_json(form.get("payload", "").encode()))
    _check_response_url(getattr(interaction, "response_url", None), desk)
    return await slack_interactions.answer(desk, interaction)


async def _signed_body(request: StrictRequest, desk: Desk) -> bytes:
    """The raw body, if Slack has signed it. Raises BadRequest (401) for whatever is wrong with that."""
    body = await request.body()
    timestamp = request.headers.getall("x-slack-request-timestamp", [])
    signature = request.headers.getall("x-slack-signature", [])
    if len(timestamp) != 1 or len(signature) != 1:
        raise BadRequest(401, "This is for Slack, whose requests are signed.")
    if not is_signed(body, timestamp=timestamp[0], signature=signature[0], settings=desk.settings):
        raise BadRequest(401, "Slack's signature is not right, or older than 5 minutes; is SLACK_SIGNING_SECRET the app's?")
    return body


def _read_form(body: bytes, content_type: str) -> dict[str, str]:
    if content_type != FORM:
        raise BadRequest(415, f"Send what Slack sends: {FORM}, or {JSON} for events.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise BadRequest(400, "The body is no form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadRequest(400, "The form has the same field twice.")
    if any(UNSTORABLE.search(text) for pair in pairs for text in pair):
        raise BadRequest(400, "The form holds a NUL or half a surrogate pair.")
    return form


def _read(kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)[:5])
        raise BadRequest(400, f"Slack does not send such: {where or 'this'}.") from None


def _check_response_url(url: str | None, desk: Desk) -> None:
    if url is not None and not is_answerable(url, desk.settings):
        raise BadRequest(400, "The response_url is not one of Slack's.")
