"""The form of a nudge that asks when the timer ended, for a time that has no button."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import Response

from api.http.problems import BadRequest
from api.slack.commands import NOT_OPENED, OPEN_VIEW_SECONDS
from api.slack.responder import CannotAnswer, Responder
from schemas.errors import RetryAfter
from schemas.messages import AnswerSlack
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import task_actions
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable, is_response_url
from schemas.slack.commands import likely_ends, timer_changes
from schemas.slack.commands import views as command_views
from schemas.slack.commands.likely_ends import RunningSince
from schemas.slack.commands.timer_changes import StopAnswer
from schemas.slack.commands.views import END
from schemas.slack.payloads import Action, BlockActions, Origin, Short, SlackId, ViewSubmission
from schemas.slack.typed import times

PICK_A_TIME = "Pick a day and a time."
FORM_UNKNOWN = "This is not one of Stint's forms."


class StopOrigin(Origin):
    """Which timer the form stops, and the nudge that it belongs to."""

    timer_id: UUID
    channel_id: SlackId | None = None
    response_url: Short | None = None


async def open_stop_form(responder: Responder, pressed: BlockActions, action: Action) -> None:
    """Opens the form. Raises CannotAnswer if the person may not use Stint, or the timer is not running any more."""
    channel_id = pressed.channel.id if pressed.channel else None
    caller = await responder.find_caller(pressed.user.id, team_id=pressed.team_id, channel_id=channel_id)
    user, timer_id = caller.user, task_actions.parse_id(action.text)
    if user is None:
        raise CannotAnswer(caller.refusal or "")

    async def look_up(conn: Connection) -> RunningSince | None:
        return await likely_ends.read(conn, user.id, timer_id, settings=responder.settings) if timer_id else None

    timer = await responder.query(look_up)
    if timer is None:
        raise CannotAnswer(task_actions.TIMER_NOT_RUNNING)
    origin = StopOrigin(timer_id=timer.timer_id, channel_id=channel_id, response_url=pressed.response_url)
    zone = times.zone_of(caller.tz, responder.settings)
    form = command_views.stop_form(timer, zone, private_metadata=origin.model_dump_json())
    try:
        await responder.open_view(pressed.trigger_id, form, seconds=OPEN_VIEW_SECONDS)
    except SlackAccessLost as error:
        raise responder.access_lost(error) from None
    except SlackRefused as error:
        raise CannotAnswer(NOT_OPENED.format(why=error.code)) from None
    except (SlackUnavailable, RetryAfter):
        raise CannotAnswer(NOT_OPENED.format(why="it does not answer")) from None


async def submit(responder: Responder, submission: ViewSubmission) -> Response[Any]:
    """Stops the timer at the chosen time. The form shows the result, and so does the nudge instead of its buttons."""
    origin = StopOrigin.parse(submission.view.private_metadata)
    if origin is None:
        raise BadRequest(400, FORM_UNKNOWN)
    try:
        answer = await responder.in_time(_stop(responder, submission, origin))
    except CannotAnswer as error:
        answer = StopAnswer(f"{error} The timer is stopped once, however often you press.")
    if answer.is_stopped:
        content = {"response_action": "update", "view": command_views.stop_result(answer.text).to_dict()}
    else:
        content = {"response_action": "errors", "errors": {submission.view.field(END)[0]: answer.text}}
    return Response(content, status_code=200)


async def _stop(responder: Responder, submission: ViewSubmission, origin: StopOrigin) -> StopAnswer:
    caller = await responder.find_caller(submission.user.id, team_id=submission.team_id, channel_id=origin.channel_id)
    if caller.user is None:
        return StopAnswer(caller.refusal or "")
    chosen = submission.view.field(END)[1]
    try:
        end = datetime.fromtimestamp(int((chosen or "")[:12]), UTC)
    except (ValueError, OverflowError, OSError):
        return StopAnswer(PICK_A_TIME)
    zone = times.zone_of(caller.tz, responder.settings)
    async with responder.transaction() as conn:
        answer = await timer_changes.stop_at(
            conn, end, by=caller.user, only_customer=caller.only_customer, zone=zone, timer_id=origin.timer_id
        )
        url = origin.response_url
        # a repeated submission answers only in the form: of two answers at the nudge, either could be the last
        stopped_now = answer.is_stopped and not answer.is_repeated
        if stopped_now and url is not None and is_response_url(url, responder.settings):
            message = AnswerSlack(response_url=url, text=answer.text, replace=True)
            await outbox.enqueue(conn, message, created_by=caller.user.id)
    return answer
