"""The command `/task`: opens the form for a new task, or runs start, stop, status, list or help."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from litestar import Response

from api.slack.responder import CannotAnswer, Responder, empty_response, ephemeral, is_late, time_left
from schemas.errors import RetryAfter
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.slack import deduplication, task_actions, views
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.escaping import unescape
from schemas.slack.members import Caller, MappedChannel
from schemas.slack.payloads import Command
from schemas.slack.views import Choice, Draft, Modal

# How long to wait for the form's data before an empty modal opens: Slack's trigger_id expires after 3 seconds.
FORM_READY_SECONDS = 0.5
OPEN_VIEW_SECONDS = 1.5
MIN_OPEN_VIEW_SECONDS = 0.3

HELP = """`/task` opens the form for a new task; `/task Migrate the mail server` fills in its title.
`/task start` starts your timer on one of your tasks, and stops the one that runs.
`/task stop` stops your timer.
`/task status` shows your running timer.
`/task list` lists your open tasks.
The menu of any message has *Create task*, which copies the message's text and link into the form.
In a channel that belongs to a customer you see only that customer's tasks."""
NOT_OPENED = "Sorry, Slack did not open the form ({why}). Please try again."
SLOW = "Sorry, Stint is slow right now. The form fills in automatically as soon as it can; if it does not, please try again."
NO_OPEN_TASKS = "You have no open tasks here. `/task` creates one."

Answer: TypeAlias = tuple[str, list[dict[str, Any]] | None]  # the text, and its blocks
Subcommand = Callable[[Connection, Responder, Caller, User], Awaitable[Answer]]


async def answer_command(responder: Responder, command: Command) -> Response[Any]:
    """The answer to a command, always in time. One that has waited for a second already, because this process was busy or
    started, is acknowledged at once, and answered at its response_url."""
    typed = unescape(command.text or "").strip()
    word = typed.lower()
    if word == "help":
        return ephemeral(HELP)
    if word == "stop":  # a write: only its result is an answer
        return await _in_time(responder, _stop(responder, command))
    if word in SUBCOMMANDS:
        if is_late():
            responder.run_late(lambda: _follow_up(responder, command, SUBCOMMANDS[word]))
            return empty_response()
        return await _in_time(responder, _answer(responder, command, SUBCOMMANDS[word]))
    request = FormRequest(command.team_id, command.channel_id, command.user_id, command.trigger_id, title=typed)
    return await answer_with_form(responder, request, command.response_url, ephemeral)


async def _in_time(responder: Responder, work: Coroutine[Any, Any, Response[Any]]) -> Response[Any]:
    try:
        return await responder.in_time(work)
    except CannotAnswer as error:
        return ephemeral(str(error))


async def _answer(responder: Responder, command: Command, subcommand: Subcommand) -> Response[Any]:
    return ephemeral(*await _read(responder, command, subcommand))


async def _follow_up(responder: Responder, command: Command, subcommand: Subcommand) -> None:
    try:
        text, blocks = await responder.or_apology(_read(responder, command, subcommand))
    except CannotAnswer as error:
        text, blocks = str(error), None
    await responder.send_ephemeral(command.response_url, text, blocks)


async def answer_with_form(
    responder: Responder, request: "FormRequest", response_url: str, refuse: Callable[[str], Response[Any]]
) -> Response[Any]:
    """Opens the form, and answers with `refuse` of a text if there is one. A late request is acknowledged first; then the text
    is sent to the response_url."""
    if not is_late():
        text = await open_form(responder, request, late=False)
        return refuse(text) if text else empty_response()

    async def open_late() -> None:
        if text := await open_form(responder, request, late=True):
            await responder.send_ephemeral(response_url, text)

    responder.run_late(open_late)
    return empty_response()


async def _read(responder: Responder, command: Command, subcommand: Subcommand) -> Answer:
    """The answer of a subcommand that only reads, or the reason of a refusal."""

    async def then(conn: Connection, caller: Caller, user: User) -> Answer:
        return await subcommand(conn, responder, caller, user)

    caller, answer = await responder.read(command.user_id, team_id=command.team_id, channel_id=command.channel_id, then=then)
    return answer or (caller.refusal or "", None)


async def _start(conn: Connection, responder: Responder, caller: Caller, user: User) -> Answer:
    _, count = await task_actions.list_own(conn, user.id, settings=responder.settings, only_customer=caller.only_customer)
    if count == 0:
        return NO_OPEN_TASKS, None
    heading = "On which of your tasks do you want to start your timer?"
    return heading, views.task_picker(heading)


async def _stop(responder: Responder, command: Command) -> Response[Any]:
    caller = await responder.find_caller(command.user_id, team_id=command.team_id, channel_id=command.channel_id)
    if caller.user is None:
        return ephemeral(caller.refusal or "")
    async with responder.transaction() as conn:
        # a repeated `stop` could stop a timer that was started after the first
        if not await deduplication.record_once(conn, f"trigger:{command.trigger_id}"):
            return empty_response()
        return ephemeral(await task_actions.stop_timer(conn, by=caller.user, only_customer=caller.only_customer))


async def _status(conn: Connection, responder: Responder, caller: Caller, user: User) -> Answer:
    return await task_actions.describe_status(conn, by=user, only_customer=caller.only_customer), None


async def _list(conn: Connection, responder: Responder, caller: Caller, user: User) -> Answer:
    tasks, count = await task_actions.list_own(conn, user.id, settings=responder.settings, only_customer=caller.only_customer)
    if count == 0:
        return NO_OPEN_TASKS, None
    heading = f"Your open tasks{' here' if caller.channel else ''}: {count}"
    heading += f", the newest {len(tasks)} of them" if count > len(tasks) else ""
    return heading, views.task_list(tasks, heading=heading)


# those that only read
SUBCOMMANDS: dict[str, Subcommand] = {"start": _start, "status": _status, "list": _list}


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
                await responder.slack.open_view(request.trigger_id, form, seconds=_open_view_timeout(late=late))
            return caller.form_refusal
        view_id = await responder.slack.open_view(request.trigger_id, views.loading(), seconds=_open_view_timeout(late=late))
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
