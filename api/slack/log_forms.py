"""The form that records time for a gap, which App Home shows. Its times are those of the gap, and can be changed."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

from litestar import Response

from api.slack.commands import NOT_OPENED, OPEN_VIEW_SECONDS
from api.slack.responder import CannotAnswer, Responder
from schemas.errors import RetryAfter
from schemas.postgres.connection import Connection
from schemas.slack import task_actions
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.commands import log_time
from schemas.slack.commands import views as command_views
from schemas.slack.commands.log_time import ENTRY_NAMESPACE, LogDraft, Logged
from schemas.slack.commands.views import END, NOTE, START
from schemas.slack.payloads import Action, BlockActions, View, ViewSubmission
from schemas.slack.typed import times
from schemas.slack.views import TASK

NO_GAP = "This button does not belong to a gap of this version. Open the Home tab again."
PICK_TIMES = "Pick a day and a time."
END_BEFORE_START = "The end must be after the start."
PICK_A_TASK = "Pick a task."


async def open_form(responder: Responder, pressed: BlockActions, action: Action) -> str | None:
    """Opens the form with the times of the button. Returns the reason if there is no form."""
    caller = await responder.find_caller(pressed.user.id, team_id=pressed.team_id, channel_id=None)
    if caller.user is None:
        return caller.refusal
    start, end = (_time(text) for text in [*(action.text or "").split(), "", ""][:2])
    if start is None or end is None:
        return NO_GAP

    async def read_now(conn: Connection) -> datetime:
        now: datetime = await conn.value("SELECT now()")
        return now

    zone = times.zone_of(caller.tz, responder.settings)
    form = command_views.log_form(start, end, zone, now=await responder.query(read_now))
    try:
        await responder.open_view(pressed.trigger_id, form, seconds=OPEN_VIEW_SECONDS)
    except SlackAccessLost as error:
        raise responder.access_lost(error) from error
    except SlackRefused as error:
        return NOT_OPENED.format(why=error.code) if error.code != "exchanged_trigger_id" else None  # a repeated request
    except (SlackUnavailable, RetryAfter):
        return NOT_OPENED.format(why="it does not answer")
    return None


async def submit(responder: Responder, submission: ViewSubmission) -> Response[Any]:
    """Records the time, once for each form. The form shows the result, or keeps its values and shows what is wrong."""
    try:
        logged, field = await responder.in_time(_record(responder, submission))
    except CannotAnswer as error:
        logged, field = Logged(f"{error} The time is recorded once, however often you press."), END
    if logged.is_recorded or logged.is_repeat:
        content = {"response_action": "update", "view": command_views.log_result(logged.text).to_dict()}
    else:
        content = {"response_action": "errors", "errors": {submission.view.field(field)[0]: logged.text}}
    return Response(content, status_code=200)


async def _record(responder: Responder, submission: ViewSubmission) -> tuple[Logged, str]:
    """The result, and the field that it is about."""
    view = submission.view
    caller = await responder.find_caller(submission.user.id, team_id=submission.team_id, channel_id=None)
    start, end = (_time(view.field(name)[1]) for name in (START, END))
    task_id = task_actions.parse_id(view.field(TASK)[1])
    if caller.user is None:
        return Logged(caller.refusal or ""), END
    if start is None or end is None:
        return Logged(PICK_TIMES), START if start is None else END
    if end <= start:
        return Logged(END_BEFORE_START), END
    if task_id is None:
        return Logged(PICK_A_TASK), TASK
    async with responder.transaction() as conn:
        logged = await log_time.record(
            conn,
            _draft(view, caller.user.id.hex, start, end),
            task_id,
            by=caller.user,
            settings=responder.settings,
            only_customer=None,
            zone=times.zone_of(caller.tz, responder.settings),
        )
    return logged, END


def _draft(view: View, user: str, start: datetime, end: datetime) -> LogDraft:
    entry_id = uuid5(ENTRY_NAMESPACE, f"{user}:view:{view.id}")
    return LogDraft(entry_id=entry_id, start=start, end=end, note=(view.field(NOTE)[1] or "").strip())


def _time(text: str | None) -> datetime | None:
    """The time in seconds since 1970; None if it is none."""
    try:
        return datetime.fromtimestamp(int((text or "")[:12]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
