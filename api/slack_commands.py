"""`/task`: the form, or one of start, stop, status, list, help."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from litestar import Response

from api.slack_desk import Desk, Sorry, ephemeral, nothing, time_left
from schemas import slack_receipts, slack_tasks
from schemas.clients import slack_views
from schemas.clients.slack import SlackAway, SlackRefuses
from schemas.clients.slack_views import Choice, Draft, Modal
from schemas.database import Connection
from schemas.errors import RetryLater
from schemas.slack_payloads import Command
from schemas.slack_people import Caller, Place
from schemas.users import User

# How long the form may take to be ready before an empty one opens: a trigger lives 3 seconds.
PATIENCE_SECONDS = 0.5
OPEN_SECONDS = 1.5
SHORTEST_SECONDS = 0.3

HELP = """`/task` opens the form for a new task; `/task Mend the mail server` fills in its title.
`/task start` starts your timer on one of your tasks, and stops the one that runs.
`/task stop` stops your timer.
`/task status` says what runs.
`/task list` lists your open tasks.
The menu of any message has *Create task*, which takes its text and its link along.
In a channel that belongs to a customer you see that customer's tasks only."""
NOT_OPENED = "Sorry, Slack did not open the form ({why}). Please try again."
SLOW = "Sorry, Stint is slow right now. The form fills in by itself as soon as it can; if it does not, please try again."

Handler = Callable[[Connection, Desk, Caller, User], Awaitable[tuple[str, list[dict[str, Any]] | None]]]


async def answer(desk: Desk, command: Command) -> Response[Any]:
    """The answer to a command, in time whatever is down."""
    typed = (command.text or "").strip()
    word = typed.lower()
    if word == "help":
        return ephemeral(HELP)
    if word in HANDLERS:
        try:
            return await desk.in_time(_do(desk, command, HANDLERS[word]))
        except Sorry as sorry:
            return ephemeral(str(sorry))
    wanted = Wanted(command.team_id, command.channel_id, command.user_id, command.trigger_id, title=typed)
    said = await open_form(desk, wanted)
    return ephemeral(said) if said else nothing()


async def _do(desk: Desk, command: Command, handler: Handler) -> Response[Any]:
    caller = await desk.caller(command.user_id, team_id=command.team_id, channel_id=command.channel_id)
    if caller.user is None:
        return ephemeral(caller.refusal or "")
    async with desk.transaction() as conn:
        if handler is _stop and not await slack_receipts.first_time(conn, f"trigger:{command.trigger_id}"):
            return nothing()
        return ephemeral(*await handler(conn, desk, caller, caller.user))


async def _start(conn: Connection, desk: Desk, caller: Caller, user: User) -> tuple[str, list[dict[str, Any]] | None]:
    _, count = await slack_tasks.own(conn, user.id, settings=desk.settings, only=caller.only)
    if count == 0:
        return NONE, None
    heading = "Start your timer on which of your tasks?"
    return heading, slack_views.pick_task(heading)


async def _stop(conn: Connection, desk: Desk, caller: Caller, user: User) -> tuple[str, None]:
    return await slack_tasks.stop(conn, by=user, only=caller.only), None


async def _status(conn: Connection, desk: Desk, caller: Caller, user: User) -> tuple[str, None]:
    return await slack_tasks.status(conn, by=user, settings=desk.settings, only=caller.only), None


async def _list(conn: Connection, desk: Desk, caller: Caller, user: User) -> tuple[str, list[dict[str, Any]] | None]:
    shown, count = await slack_tasks.own(conn, user.id, settings=desk.settings, only=caller.only)
    if count == 0:
        return NONE, None
    heading = f"Your open tasks{' here' if caller.place else ''}: {count}"
    heading += f", the newest {len(shown)} of them" if count > len(shown) else ""
    return heading, slack_views.tasks(shown, heading=heading)


NONE = "You have no open tasks here. `/task` creates one."
HANDLERS: dict[str, Handler] = {"start": _start, "stop": _stop, "status": _status, "list": _list}


@dataclass(frozen=True)
class Wanted:
    """A form that somebody asked for, by a command or by a message's menu, and what it begins with."""

    team_id: str
    channel_id: str
    user_id: str
    trigger_id: str
    title: str = ""
    description: str = ""

    def form(self, place: Place | None) -> Modal:
        """The form, with what is preset at that place."""
        customer = Choice(place.customer_id, place.customer) if place else None
        pillar = Choice(place.pillar_id, place.pillar) if place and place.pillar_id and place.pillar else None
        return slack_views.form(Draft(self.channel_id, self.title, self.description, customer, pillar))


async def open_form(desk: Desk, wanted: Wanted) -> str | None:
    """Opens the form; returns what is to be said instead, or beside it. When the form is not ready soon, because Postgres or
    Slack is slow, an empty modal opens, and is filled when that is known; whoever may not have it is told so there, too."""
    caller = desk.caller(wanted.user_id, team_id=wanted.team_id, channel_id=wanted.channel_id)
    asking = desk.begin(desk.apologizing(caller))
    await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
    try:
        if asking.done():
            found = asking.result()
            if found.user is not None:
                await desk.slack.open_view(wanted.trigger_id, wanted.form(found.place), seconds=_to_open())
            return found.refusal
        view_id = await desk.slack.open_view(wanted.trigger_id, slack_views.waiting(), seconds=_to_open())
    except Sorry as sorry:
        return str(sorry)
    except SlackRefuses as error:
        return NOT_OPENED.format(why=error.code)
    except (SlackAway, RetryLater):
        return NOT_OPENED.format(why="it does not answer")
    desk.begin(_fill(desk, view_id, wanted, asking))
    await asyncio.wait({asking}, timeout=time_left())
    return await _refusal(asking) if asking.done() else SLOW


def _to_open() -> float:
    return max(SHORTEST_SECONDS, min(OPEN_SECONDS, time_left()))


async def _fill(desk: Desk, view_id: str, wanted: Wanted, asking: asyncio.Task[Caller]) -> None:
    refusal = await _refusal(asking)
    await desk.fill(view_id, slack_views.notice(refusal) if refusal else wanted.form(asking.result().place))


async def _refusal(asking: asyncio.Task[Caller]) -> str | None:
    try:
        return (await asking).refusal
    except Sorry as sorry:
        return str(sorry)
