"""The command `/task`: opens the form for a new task, runs another command, or asks what is meant."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from litestar import Response

from api.slack import outcomes, subcommands
from api.slack.deadlines import is_done_in_time, is_given_up, is_late, time_left
from api.slack.late_requests import run_late
from api.slack.outcomes import Attempt
from api.slack.responder import CannotAnswer, Responder, empty_response, ephemeral
from api.slack.subcommands import Answer, Context
from schemas.errors import RetryAfter
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.slack import deduplication, views
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.commands.views import quoted
from schemas.slack.members import Caller, MappedChannel
from schemas.slack.payloads import Command
from schemas.slack.typed import parser
from schemas.slack.typed.parser import NearMiss, Run, Title
from schemas.slack.views import Choice, Draft, Modal

# How long to wait for the form's data before an empty modal opens: Slack's trigger_id expires after 3 seconds.
FORM_READY_SECONDS = 0.5
OPEN_VIEW_SECONDS = 1.5
MIN_OPEN_VIEW_SECONDS = 0.3

NOT_OPENED = "Sorry, Slack did not open the form ({why}). Please try again."
TOO_LATE = "Stint was busy and has read `/task {command}` too late, so that it has changed nothing. Please try again."
DONE = "`/task {command}` is done. Stint could not reach its database for its answer; `/task status` shows your timer."
UNKNOWN = (
    "Sorry, Stint can't reach its database, and does not know whether `/task {command}` was done. Look at `/task status` or "
    "`/task today` before you repeat it."
)
LOST = "Stint was restarted before it could answer `/task {command}`. Please type it again."
FORM_LOST = "Stint was restarted before it could open the form. Please try again."
SLOW = "Sorry, Stint is slow right now. The form fills in automatically as soon as it can; if it does not, please try again."


async def answer_command(responder: Responder, command: Command) -> Response[Any]:
    """The answer to a command, always in time. One that has waited for a second already, because this process was busy or
    started, is acknowledged at once, and answered at its response_url."""
    typed = parser.parse(command.text or "")
    if isinstance(typed, Title):
        request = FormRequest(command.team_id, command.channel_id, command.user_id, command.trigger_id, title=typed.text)
        return await answer_with_form(responder, request, command.response_url, ephemeral)
    if typed == Run("help"):
        return ephemeral(subcommands.HELP)
    if isinstance(typed, Run) and subcommands.writes(typed):
        return await _answer_write(responder, command, typed)
    if is_late(responder.settings):
        text = typed.text if isinstance(typed, Run) else typed.title
        await run_late(
            responder,
            lambda: _follow_up(responder, command, _read(responder, command, typed)),
            command.response_url,
            lost=LOST.format(command=quoted(text)),
        )
        return empty_response()
    try:
        answer = await responder.in_time(_read(responder, command, typed))
    except CannotAnswer as error:
        return ephemeral(str(error))
    return ephemeral(answer.text, answer.blocks)


async def _answer_write(responder: Responder, command: Command, typed: Run) -> Response[Any]:
    """The result of a command that may change something. If Slack has told the person that the command failed, before it was
    read, it changes nothing. If it is not done in time, the answer says so, and its result follows at the response_url."""
    if is_given_up():
        text = TOO_LATE.format(command=quoted(typed.text))
        responder.run_in_background(responder.send_ephemeral(command.response_url, text))
        return empty_response()
    task = responder.run_in_background(_outcome(responder, command, typed))
    is_done = await is_done_in_time(task)
    if not is_done or is_given_up():  # then nobody reads the answer
        responder.run_in_background(_follow_up(responder, command, task))
    if not is_done:
        return ephemeral(responder.still_running())
    answer = task.result()
    return ephemeral(answer.text, answer.blocks) if answer is not None else empty_response()


async def _outcome(responder: Responder, command: Command, typed: Run) -> Answer | None:
    """The answer of a command that may change something. If Postgres does not say whether it was done, Stint finds out before
    it apologizes."""
    attempt = Attempt(_trigger(command))
    try:
        return await responder.or_apology(_write(responder, command, typed, attempt))
    except CannotAnswer as error:
        match await outcomes.is_done(responder.database, attempt):
            case True:
                return Answer(DONE.format(command=quoted(typed.text)))
            case False:
                return Answer(str(error))
            case None:
                return Answer(UNKNOWN.format(command=quoted(typed.text)))


async def _or_apology(responder: Responder, work: Awaitable[Answer | None]) -> Answer | None:
    async def wait() -> Answer | None:
        return await work

    try:
        return await responder.or_apology(wait())
    except CannotAnswer as error:
        return Answer(str(error))


async def _follow_up(responder: Responder, command: Command, work: Awaitable[Answer | None]) -> None:
    if (answer := await _or_apology(responder, work)) is not None:
        await responder.send_ephemeral(command.response_url, answer.text, answer.blocks)


async def answer_with_form(
    responder: Responder, request: "FormRequest", response_url: str, refuse: Callable[[str], Response[Any]]
) -> Response[Any]:
    """Opens the form, and answers with `refuse` of a text if there is one. A late request is acknowledged first; then the text
    is sent to the response_url."""
    if not is_late(responder.settings):
        text = await open_form(responder, request, late=False)
        return refuse(text) if text else empty_response()

    async def open_late() -> None:
        if text := await open_form(responder, request, late=True):
            await responder.send_ephemeral(response_url, text)

    await run_late(responder, open_late, response_url, lost=FORM_LOST)
    return empty_response()


async def _read(responder: Responder, command: Command, typed: Run | NearMiss) -> Answer:
    """The answer of a command that only reads, the question whether one was meant, or the reason of a refusal."""

    async def then(conn: Connection, caller: Caller, user: User) -> Answer:
        if isinstance(typed, NearMiss):
            return subcommands.ask(typed)
        return await subcommands.run(conn, Context(responder, caller, user, _trigger(command)), typed)

    caller, answer = await responder.read(command.user_id, team_id=command.team_id, channel_id=command.channel_id, then=then)
    return answer or Answer(caller.refusal or "")


async def _write(responder: Responder, command: Command, typed: Run, attempt: Attempt) -> Answer | None:
    """Runs a command that may change something, once: None if it was run before."""
    caller = await responder.find_caller(command.user_id, team_id=command.team_id, channel_id=command.channel_id)
    if caller.user is None:
        return Answer(caller.refusal or "")
    async with responder.transaction() as conn:
        attempt.began = True
        # a repeated `stop` could stop a timer that was started after the first
        if not await deduplication.record_once(conn, attempt.key):
            return None
        return await subcommands.run(conn, Context(responder, caller, caller.user, _trigger(command)), typed)


def _trigger(command: Command) -> str:
    return f"trigger:{command.trigger_id}"


@dataclass(frozen=True)
class FormRequest:
    """A request to open the form, by a command or a message's menu, with the form's initial values."""

    team_id: str
    channel_id: str
    user_id: str
    trigger_id: str
    title: str = ""
    description: str = ""

    def form(self, channel: MappedChannel | None) -> Modal:
        """The form, with the channel's customer and pillar preset."""
        customer = Choice(channel.customer_id, channel.customer) if channel else None
        pillar = Choice(channel.pillar_id, channel.pillar) if channel and channel.pillar_id and channel.pillar else None
        return views.task_form(Draft(self.channel_id, self.title, self.description, customer, pillar))


async def open_form(responder: Responder, request: FormRequest, *, late: bool) -> str | None:
    """Opens the form. Returns a text for the user if there is one, such as the reason of a refusal. If the caller is not known
    soon, because Postgres or Slack is slow, an empty modal opens; it gets the form, or the refusal, when the caller is known.
    """
    where = {"team_id": request.team_id, "channel_id": request.channel_id}
    find_caller = responder.find_caller(request.user_id, **where, may_be_stale=True)
    lookup = responder.run_in_background(responder.or_apology(find_caller))
    await asyncio.wait({lookup}, timeout=FORM_READY_SECONDS)
    try:
        if lookup.done():
            caller = lookup.result()
            if caller.form_refusal is None:
                form = request.form(caller.channel)
                await responder.open_view(request.trigger_id, form, seconds=_open_view_timeout(late=late))
            return caller.form_refusal
        view_id = await responder.open_view(request.trigger_id, views.loading(), seconds=_open_view_timeout(late=late))
    except CannotAnswer as error:
        return str(error)
    except SlackAccessLost as error:
        return str(responder.access_lost(error))
    except SlackRefused as error:
        return NOT_OPENED.format(why=error.code)
    except (SlackUnavailable, RetryAfter):
        return NOT_OPENED.format(why="it does not answer")
    responder.run_in_background(_fill_modal(responder, view_id, request, lookup))
    await asyncio.wait({lookup}, timeout=time_left())
    return await _refusal(lookup) if lookup.done() else SLOW


def _open_view_timeout(*, late: bool) -> float:
    # a late request is answered already, so only Slack's trigger limits the call
    return OPEN_VIEW_SECONDS if late else max(MIN_OPEN_VIEW_SECONDS, min(OPEN_VIEW_SECONDS, time_left()))


async def _fill_modal(responder: Responder, view_id: str, request: FormRequest, lookup: asyncio.Task[Caller]) -> None:
    refusal = await _refusal(lookup)
    view = views.notice(refusal) if refusal else request.form(lookup.result().channel)
    await responder.update_modal(view_id, view)


async def _refusal(lookup: asyncio.Task[Caller]) -> str | None:
    try:
        return (await lookup).form_refusal
    except CannotAnswer as error:
        return str(error)
