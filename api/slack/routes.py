"""Slack's two routes. A request without Slack's valid signature is refused before its body is parsed. If the headers of the
signature are missing, malformed or old, it is refused before its body is read."""

from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, post
from pydantic import TypeAdapter, ValidationError

from api.dependencies import ApiRequest
from api.http.bodies import RAW_BODY
from api.http.limits.json_text import UNSTORABLE, Bounds, parse_json
from api.http.problems import BadRequest
from api.http.queries import ANY_QUERY
from api.slack import commands, events, interactions
from api.slack.deadlines import count_from_arrival
from api.slack.responder import Responder, empty_response, request_organization
from schemas.slack.client import has_valid_signature, is_response_url, may_be_signed
from schemas.slack.payloads import EVENT, INTERACTION, Challenge, Command, EventCallback

UNSIGNED = "This is for Slack, whose requests are signed."
WRONGLY_SIGNED = "Slack's signature is wrong or older than 5 minutes; check SLACK_SIGNING_SECRET and the clock."
# an app's URLs are written by hand at Slack, may contain a query, and are not part of what Slack signs
PUBLIC = {"exclude_from_auth": True, ANY_QUERY: True, "also_answers": {401: UNSIGNED}, RAW_BODY: True}
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
UNSUPPORTED = f"Send what Slack sends: {FORM}, or {JSON} for events."
COMMAND = TypeAdapter(Command)
# 40,000 characters, once as text and once as blocks, each escaped for JSON and again for the form: up to 18 bytes
MAX_SLACK_BYTES = 2 * 1024 * 1024
SLACK_BOUNDS = Bounds(values=20_000, fields=1_000)  # a message with its blocks; it is parsed only if Slack has signed it


@post(
    "/api/slack/events",
    summary="Receive Slack's commands and events",
    opt=PUBLIC,
    status_code=200,
    request_max_body_size=MAX_SLACK_BYTES,
)
async def receive_event(request: ApiRequest) -> Response[Any]:
    """Only for Slack: the slash command `/task` (a form) and event subscriptions (JSON). They must be signed with the app's
    signing secret within the last 5 minutes: otherwise 401.

    A command is always answered within 3 seconds, with an apology if Postgres or Slack is down. A failed event is answered
    with 503, so that Slack sends it again."""
    body = await _signed_body(request)
    content_type, _ = request.content_type
    if content_type == JSON:
        event = _validate(EVENT, parse_json(body, SLACK_BOUNDS))
        match event:
            case Challenge():
                return Response({"challenge": event.challenge}, status_code=200)
            case EventCallback():
                return await events.receive_event(request.responder, event)
            case _:
                return empty_response()
    form = _parse_form(body, content_type)
    if form.get("ssl_check") == "1":
        return empty_response()
    command: Command = _validate(COMMAND, form)
    _check_response_url(command.response_url, request.responder)
    request_organization.set(command.enterprise_id or None)
    return await commands.answer_command(request.responder, command)


@post(
    "/api/slack/interactivity",
    summary="Receive Slack's interactions",
    opt=PUBLIC,
    status_code=200,
    request_max_body_size=MAX_SLACK_BYTES,
)
async def receive_interaction(request: ApiRequest) -> Response[Any]:
    """Only for Slack: submitted forms, pressed buttons, options of selects, and the message action "Create task". They are
    signed as events are. Each takes effect once, even if Slack repeats it, and is answered within 3 seconds."""
    body = await _signed_body(request)
    content_type, _ = request.content_type
    form = _parse_form(body, content_type)
    if form.get("ssl_check") == "1":
        return empty_response()
    interaction = _validate(INTERACTION, parse_json(form.get("payload", "").encode(), SLACK_BOUNDS))
    _check_response_url(getattr(interaction, "response_url", None), request.responder)
    request_organization.set(interaction.enterprise_id)
    return await interactions.answer_interaction(request.responder, interaction)


async def _signed_body(request: ApiRequest) -> bytes:
    """The raw body. Raises BadRequest (401) if Slack has not signed it."""
    count_from_arrival(request)
    timestamp = request.headers.getall("x-slack-request-timestamp", [])
    signature = request.headers.getall("x-slack-signature", [])
    if len(timestamp) != 1 or len(signature) != 1:
        raise BadRequest(401, UNSIGNED)
    if not may_be_signed(timestamp=timestamp[0], signature=signature[0]):  # before 2 MiB are read for anybody
        raise BadRequest(401, WRONGLY_SIGNED)
    body = await request.body()
    if not has_valid_signature(body, timestamp=timestamp[0], signature=signature[0], settings=request.settings):
        raise BadRequest(401, WRONGLY_SIGNED)
    return body


def _parse_form(body: bytes, content_type: str) -> dict[str, str]:
    if content_type != FORM:
        raise BadRequest(415, UNSUPPORTED)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise BadRequest(400, "The body is not a form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadRequest(400, "The form has the same field twice.")
    if any(UNSTORABLE.search(text) for pair in pairs for text in pair):
        raise BadRequest(400, "The form contains a NUL or half a surrogate pair.")
    return form


def _validate(kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        where = ", ".join(
            ".".join(map(str, fault["loc"]))
            for fault in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
        raise BadRequest(400, f"Slack does not send these values: {where or 'the whole body'}.") from None


def _check_response_url(url: str | None, responder: Responder) -> None:
    if url is not None and not is_response_url(url, responder.settings):
        raise BadRequest(400, "The response_url is not a URL of Slack's.")
