"""Slack's interactions: form submissions, buttons, options of selects, and "Create task" in a message's menu."""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Response

from api.http.problems import BadRequest
from api.http.responses import json_response
from api.slack import approvals, command_buttons, log_forms, stop_forms
from api.slack.commands import FormRequest, answer_with_form
from api.slack.outcomes import Attempt
from api.slack.responder import CannotAnswer, Responder, empty_response
from schemas.errors import Conflict, Invalid
from schemas.identity.users import User
from schemas.messages import AnswerSlack
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import deduplication, members, presses, task_actions, task_form, updates, views
from schemas.slack.approvals.rejection_form import REJECT_FORM
from schemas.slack.commands import search
from schemas.slack.commands.views import CHOOSE_END, LOG_FORM, NEW_TASK, STOP_FORM
from schemas.slack.home import homes
from schemas.slack.home.view import LOG_GAP
from schemas.slack.members import Caller
from schemas.slack.payloads import (
    AnyInteraction,
    BlockActions,
    BlockSuggestion,
    FormOrigin,
    MessageAction,
    ViewClosed,
    ViewSubmission,
)
from schemas.slack.presses import Outcome
from schemas.slack.reading import message_text
from schemas.slack.reading.mrkdwn import Names
from schemas.slack.views import CREATE_TASK, CUSTOMER, PILLAR, TASK, TITLE, Choice, Draft

FORM_ALREADY_USED = "This form has already created its task, with other values. Close it, and change the task in Stint."
FORM_UNKNOWN = "This is not one of Stint's forms."
NAMES_SECONDS = 0.3  # Slack's trigger_id expires after 3 seconds, and the form is more important than names
MAX_NAMES = 100
SITE, GOV_SITE = "slack.com", "slack-gov.com"


async def answer_interaction(responder: Responder, interaction: AnyInteraction) -> Response[Any]:
    """The answer to an interaction, always in time."""
    match interaction:
        case ViewSubmission():
            return await _submit(responder, interaction)
        case BlockSuggestion():
            return await _suggest(responder, interaction)
        case BlockActions():
            return await _act(responder, interaction)
        case MessageAction():
            return await _create_from_message(responder, interaction)
        case ViewClosed():
            return empty_response()


async def _submit(responder: Responder, submission: ViewSubmission) -> Response[Any]:
    """Creates the form's task, stops a timer, records time, or rejects bills. Errors are shown in the form, which keeps its
    values."""
    if submission.view.callback_id == STOP_FORM:
        return await stop_forms.submit(responder, submission)
    if submission.view.callback_id == LOG_FORM:
        return await log_forms.submit(responder, submission)
    if submission.view.callback_id == REJECT_FORM:
        return await approvals.submit(responder, submission)
    origin = FormOrigin.parse(submission.view.private_metadata)
    if submission.view.callback_id != CREATE_TASK or origin is None:
        raise BadRequest(400, FORM_UNKNOWN)
    try:
        errors = await responder.in_time(_create(responder, submission, origin))
    except CannotAnswer as error:
        errors = {submission.view.field(TITLE)[0]: f"{error} It creates one task, however often you press."}
    return Response({"response_action": "errors", "errors": errors}, status_code=200) if errors else empty_response()


async def _create(responder: Responder, submission: ViewSubmission, origin: FormOrigin) -> dict[str, str]:
    view, slack_id = submission.view, submission.user.id
    caller = await responder.find_caller(slack_id, team_id=submission.team_id, channel_id=origin.channel_id)
    title = view.field(TITLE)[0]
    if caller.user is None:
        return {title: caller.refusal or ""}
    try:
        body = task_form.parse_form(view, team_id=submission.team_id, channel=caller.channel)
        async with responder.transaction() as conn:
            await task_form.create(conn, view, body, by=caller.user, slack_id=slack_id, channel_id=origin.channel_id)
    except Invalid as error:
        return task_form.form_errors(view, error.errors)
    except Conflict:
        return {title: FORM_ALREADY_USED}
    return {}


async def _suggest(responder: Responder, suggestion: BlockSuggestion) -> Response[Any]:
    """The options of a select; none if the lookup fails, or if the user may not see them."""
    try:
        options = await responder.in_time(_options(responder, suggestion))
    except CannotAnswer:
        options = search.NO_OPTIONS
    return json_response(options)


async def _options(responder: Responder, suggestion: BlockSuggestion) -> bytes:
    view, typed = suggestion.view, suggestion.value or ""
    origin = FormOrigin.parse(view.private_metadata) if view else None
    channel_id = origin.channel_id if origin else suggestion.channel.id if suggestion.channel else None

    async def look_up(conn: Connection, caller: Caller, user: User) -> bytes:
        only_customer = caller.only_customer
        if suggestion.action_id == TASK:
            return await search.suggest_tasks(conn, typed, user_id=user.id, only_customer=only_customer)
        if suggestion.action_id == CUSTOMER:
            return await search.suggest_customers(conn, typed, user_id=user.id, only_customer=only_customer)
        selected = view.field(CUSTOMER)[1] if view else None
        customer_id = task_actions.parse_id(selected or (origin.customer_id if origin else None))
        if suggestion.action_id != PILLAR or customer_id is None or only_customer not in (None, customer_id):
            return search.NO_OPTIONS
        return await search.suggest_pillars(conn, typed, customer_id=customer_id)

    _, options = await responder.read(suggestion.user.id, team_id=suggestion.team_id, channel_id=channel_id, then=look_up)
    return options or search.NO_OPTIONS


async def _act(responder: Responder, pressed: BlockActions) -> Response[Any]:
    """Runs the action of a button. A changed customer in the form changes the form's pillars."""
    action = pressed.actions[0]
    if action.action_id in approvals.ACTIONS:
        return await approvals.press(responder, pressed, action)
    try:
        if action.action_id == CUSTOMER and pressed.view is not None:
            await responder.in_time(_change_customer(responder, pressed))
        elif action.action_id == NEW_TASK and pressed.channel is not None:
            form = FormRequest(
                pressed.team_id, pressed.channel.id, pressed.user.id, pressed.trigger_id, title=action.text or ""
            )
            return await answer_with_form(responder, form, pressed.response_url or "", _refusal_to(responder, pressed))
        elif action.action_id == CHOOSE_END:
            await responder.in_time(stop_forms.open_stop_form(responder, pressed, action))
        elif action.action_id == LOG_GAP:
            await responder.answer_behind(log_forms.open_form(responder, pressed, action), pressed)
        elif action.action_id in presses.BUTTONS or action.action_id in command_buttons.BUTTONS:
            attempt = Attempt(f"trigger:{pressed.trigger_id}")
            await responder.answer_behind(_press(responder, pressed, attempt), pressed, attempt)
    except CannotAnswer as error:
        responder.run_in_background(responder.tell(pressed, str(error)))
    return empty_response()


def _refusal_to(responder: Responder, pressed: BlockActions | MessageAction) -> Callable[[str], Response[Any]]:
    """Sends a text to the person behind the answer, which is empty."""

    def refuse(text: str) -> Response[Any]:
        if pressed.response_url is not None:
            responder.run_in_background(responder.send_ephemeral(pressed.response_url, text))
        return empty_response()

    return refuse


async def _press(responder: Responder, pressed: BlockActions, attempt: Attempt) -> str | None:
    """Runs the action once, and enqueues the answer. Returns the reason if the caller is refused."""
    channel_id = pressed.channel.id if pressed.channel else None
    caller = await responder.find_caller(pressed.user.id, team_id=pressed.team_id, channel_id=channel_id)
    if caller.user is None:
        return caller.refusal
    async with responder.transaction() as conn:
        attempt.began = True
        if await deduplication.record_once(conn, attempt.key):
            if pressed.actions[0].action_id in command_buttons.BUTTONS:
                outcome = await command_buttons.run(conn, responder, pressed, caller, caller.user)
            else:
                outcome = await presses.run(conn, pressed, caller, settings=responder.settings)
            if pressed.response_url is not None:
                await _enqueue_answers(conn, outcome, pressed, pressed.response_url, by=caller.user)
            else:
                await homes.tell(conn, caller.slack_id, outcome.text)
    return None


async def _enqueue_answers(conn: Connection, outcome: Outcome, pressed: BlockActions, url: str, *, by: User) -> None:
    answer = AnswerSlack(response_url=url, text=outcome.text, blocks=outcome.blocks, replace=outcome.replaces)
    await outbox.enqueue(conn, answer, created_by=by.id)
    if (confirmation := outcome.confirmation) is not None:
        key = presses.message_key(pressed)
        version = await updates.record(conn, key)
        update = AnswerSlack(
            response_url=url,
            text=confirmation.text,
            blocks=confirmation.blocks,
            replace=True,
            message_key=key,
            version=version.number,
        )
        await outbox.enqueue(conn, update, created_by=by.id, available_at=version.send_at)


async def _change_customer(responder: Responder, pressed: BlockActions) -> None:
    view = pressed.view
    assert view is not None
    origin = FormOrigin.parse(view.private_metadata)
    if origin is None:
        raise BadRequest(400, FORM_UNKNOWN)
    caller = await responder.find_caller(pressed.user.id, team_id=pressed.team_id, channel_id=origin.channel_id)
    customer_id = task_actions.parse_id(pressed.actions[0].text)
    if caller.user is None or customer_id is None:
        return

    async def look_up(conn: Connection) -> Choice | None:
        return await task_actions.get_customer(conn, customer_id, only_customer=caller.only_customer)

    customer = await responder.query(look_up)
    draft = Draft(origin.channel_id, view.field("title")[1] or "", view.field("description")[1] or "", customer)
    responder.run_in_background(responder.update_modal(view.id, views.task_form(draft)))


async def _create_from_message(responder: Responder, action: MessageAction) -> Response[Any]:
    """Opens the form with a title of the message, and its text and link as the description."""
    text = await _read_message(responder, action)
    link = _permalink(action, site=GOV_SITE if GOV_SITE in responder.settings.slack_api_url else SITE)
    shown = message_text.shorten(text, views.MAX_DESCRIPTION_LENGTH - len(link) - 2)
    request = FormRequest(
        action.team_id,
        action.channel.id,
        action.user.id,
        action.trigger_id,
        title=message_text.title(text),
        description=f"{shown}\n\n{link}".strip(),
    )
    return await answer_with_form(responder, request, action.response_url, _refusal_to(responder, action))


async def _read_message(responder: Responder, action: MessageAction) -> str:
    """The message's text. Whom it mentions is looked up in what Stint knows, if that takes no longer than NAMES_SECONDS."""
    content, names = action.message.model_dump(), Names()
    text = message_text.describe(content, names)
    if not names.unknown:
        return text

    async def look_up(conn: Connection) -> dict[str, str]:
        return await members.find_names(conn, sorted(names.unknown)[:MAX_NAMES], action.channel.id)

    lookup = responder.run_in_background(responder.or_apology(responder.query(look_up)))
    await asyncio.wait({lookup}, timeout=NAMES_SECONDS)
    if not lookup.done() or lookup.exception() is not None:
        return text
    return message_text.describe(content, Names(lookup.result()))


def _permalink(action: MessageAction, *, site: str) -> str:
    """The message's URL. A reply opens in its thread."""
    message, channel_id = action.message, action.channel.id
    domain = action.team.domain if action.team is not None else None
    url = f"https://{domain or 'app'}.{site}/archives/{channel_id}/p{message.ts.replace('.', '')}"
    if message.thread_ts is not None and message.thread_ts != message.ts:
        url += f"?thread_ts={message.thread_ts}&cid={channel_id}"
    return url
