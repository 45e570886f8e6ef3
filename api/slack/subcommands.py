"""What the commands of `/task` do, whether they are typed or run by a button of a question. Each returns the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from api.slack import approvals
from api.slack.responder import Responder
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.slack import task_actions, views
from schemas.slack.commands import log_time, task_search, timer_changes, worked
from schemas.slack.commands import views as command_views
from schemas.slack.commands.log_time import LogDraft
from schemas.slack.commands.views import StopAt
from schemas.slack.members import Caller
from schemas.slack.reminders import buttons as reminders
from schemas.slack.typed import clock_times, times
from schemas.slack.typed.parser import WITH_WORDS, NearMiss, Run

HELP = """`/task` opens the form for a new task; `/task Migrate the mail server` fills in its title.
`/task start` starts your timer on one of your tasks, and stops the one that runs; `/task start mail server` finds the task.
`/task switch` lists the tasks that you worked on last, to go on with one of them.
`/task stop` stops your timer; `/task stop at 17:30` stops it at that time of day.
`/task note The cable was broken` adds a line to the notes of your timer.
`/task log 1h30` records time that ends now; `/task log 1h30 mail server: moved the boxes` names the task and a note.
`/task today` and `/task week` show your hours.
`/task status` shows your running timer.
`/task list` lists your open tasks.
`/task approve` lists the time bills to approve, for admins.
`/task reminders off` turns off the reminders at the end of your working day, and `/task reminders on` turns them on again.
The menu of any message has *Create task*, which copies the message's text and link into the form.
In a channel that belongs to a customer you see only that customer's tasks. Times are in the time zone of your Slack account."""
NO_OPEN_TASKS = "You have no open tasks here. `/task` creates one."
LOG_USAGE = "How long? Type it after the command: `/task log 1h30`, or `/task log 45m mail server: moved the boxes`."
NOTE_TOO_LONG = "Nothing is recorded: the note is too long for a button. Name the task exactly, or shorten the note."
NOTE_USAGE = "Type the note after the command: `/task note The cable was broken`."


@dataclass(frozen=True)
class Answer:
    """The answer to a command, in Slack's mrkdwn. `is_repeat`: what it tells was done before."""

    text: str
    blocks: list[dict[str, Any]] | None = None
    is_repeat: bool = False


@dataclass(frozen=True)
class Context:
    """Who runs a command, and where. `command` identifies the request, so that what it creates is created once."""

    responder: Responder
    caller: Caller
    user: User
    command: str

    @property
    def scope(self) -> dict[str, Any]:
        """Where tasks are looked up."""
        return {"settings": self.responder.settings, "only_customer": self.caller.only_customer}

    @property
    def zone(self) -> ZoneInfo:
        return times.zone_of(self.caller.tz, self.responder.settings)


def writes(command: Run) -> bool:
    """Whether the command may change something. Then a repeated request of Slack's must not do it again."""
    return command.name == "stop" or (command.name in (*WITH_WORDS, "reminders") and bool(command.words or command.seconds))


async def run(conn: Connection, context: Context, command: Run) -> Answer:
    """Runs the command, and returns its answer."""
    if command.name == "help":
        return Answer(HELP)
    return await SUBCOMMANDS[command.name](conn, context, command)


def ask(near: NearMiss) -> Answer:
    """The question whether the command was meant, or a new task of this name."""
    if near.can_run:
        text = f"Did you mean `/task {command_views.quoted(near.run.text)}`?"
    else:
        text = LOG_USAGE if near.run.name == "log" else NOTE_USAGE
    text += f" Or is “{command_views.quoted(near.title)}” a new task?"
    return Answer(text, command_views.question(near, text))


async def log_on(conn: Connection, context: Context, log: LogDraft) -> Answer:
    """Records a draft of `/task log` on its task."""
    assert log.task_id is not None
    logged = await log_time.record(conn, log, log.task_id, by=context.user, zone=context.zone, **context.scope)
    blocks = command_views.log_anyway(logged.text, logged.confirm) if logged.confirm else None
    return Answer(logged.text, blocks, is_repeat=logged.is_repeat)


async def stop_at(conn: Connection, context: Context, stop: StopAt) -> Answer:
    """Stops a timer at the time of a nudge's button."""
    who: dict[str, Any] = {"by": context.user, "only_customer": context.caller.only_customer}
    return Answer((await timer_changes.stop_at(conn, stop.end, zone=context.zone, timer_id=stop.timer_id, **who)).text)


async def _start(conn: Connection, context: Context, command: Run) -> Answer:
    user = context.user
    if not command.words:
        _, count = await task_actions.list_own(conn, user.id, **context.scope)
        if count == 0:
            return Answer(NO_OPEN_TASKS)
        heading = "On which of your tasks do you want to start your timer?"
        return Answer(heading, views.task_picker(heading))
    found = await task_search.find(conn, command.words, user_id=user.id, **context.scope)
    if found.only is not None:
        return Answer(await task_actions.start_timer(conn, found.only.id, by=user, **context.scope))
    if not found.tasks:
        text = f"No open task here fits “{command_views.quoted(command.words)}”."
        return Answer(text, command_views.new_task_button(text, command.words))
    heading = f"These tasks fit “{command_views.quoted(command.words)}”. On which do you want to start your timer?"
    heading += " More of them fit: type more words to see those." if found.more else ""
    return Answer(heading, views.task_list(found.tasks, heading=heading))


async def _switch(conn: Connection, context: Context, command: Run) -> Answer:
    if command.words:
        return await _start(conn, context, command)
    timer = await task_actions.get_running_timer(conn, context.user.id, only_customer=context.caller.only_customer)
    tasks = await task_search.list_recent(conn, user_id=context.user.id, **context.scope)
    runs = f"Your timer runs {timer.on_task}." if timer else task_actions.NO_TIMER
    if not tasks:
        return Answer(f"{runs} You have no other open tasks here. `/task` creates one.")
    heading = f"{runs} Start it on one of the tasks that you worked on last:"
    return Answer(heading, views.task_list(tasks, heading=heading))


async def _stop(conn: Connection, context: Context, command: Run) -> Answer:
    who: dict[str, Any] = {"by": context.user, "only_customer": context.caller.only_customer}
    at = clock_times.parse(command.words) if command.words else None
    if at is None:
        return Answer(await task_actions.stop_timer(conn, **who))
    end = times.latest(at, context.zone, now=await conn.value("SELECT now()"))
    return Answer((await timer_changes.stop_at(conn, end, zone=context.zone, **who)).text)


async def _note(conn: Connection, context: Context, command: Run) -> Answer:
    if not command.words:
        return Answer(NOTE_USAGE)
    customer = context.caller.only_customer
    return Answer(await timer_changes.add_note(conn, command.words, by=context.user, only_customer=customer))


async def _log(conn: Connection, context: Context, command: Run) -> Answer:
    if not command.seconds:
        return Answer(LOG_USAGE)
    user_id = context.user.id
    if command.words:
        found = await task_search.find_with_note(conn, command.words, user_id=user_id, **context.scope)
    else:
        found = task_search.Found([], sure=False)
    log = await log_time.draft(conn, command.seconds, by=context.user, command=context.command, note=found.note)
    if found.only is not None:
        return await log_on(conn, context, log.model_copy(update={"task_id": found.only.id}))
    tasks = found.tasks or await task_search.list_recent(conn, user_id=user_id, with_running=True, **context.scope)
    if not tasks:
        return Answer(f"Nothing is recorded. {NO_OPEN_TASKS}")
    if log.value(tasks[0].id) is None:
        return Answer(NOTE_TOO_LONG)
    duration = task_actions.format_duration(command.seconds)
    fits = f"No open task here fits “{command_views.quoted(command.words)}”. " if command.words and not found.tasks else ""
    heading = f"{fits}On which task do you want to record {duration}?"
    heading += f" Your note: “{command_views.quoted(found.note)}”." if found.note else ""
    return Answer(heading, command_views.tasks_to_log(tasks, heading=heading, value=lambda task: log.value(task.id)))


async def _today(conn: Connection, context: Context, command: Run) -> Answer:
    customer = context.caller.only_customer
    week = command.name == "week"
    return Answer(await worked.describe(conn, user_id=context.user.id, zone=context.zone, week=week, only_customer=customer))


async def _status(conn: Connection, context: Context, _: Run) -> Answer:
    customer = context.caller.only_customer
    return Answer(await task_actions.describe_status(conn, by=context.user, only_customer=customer))


async def _list(conn: Connection, context: Context, _: Run) -> Answer:
    tasks, count = await task_actions.list_own(conn, context.user.id, **context.scope)
    if count == 0:
        return Answer(NO_OPEN_TASKS)
    heading = f"Your open tasks{' here' if context.caller.channel else ''}: {count}"
    heading += f", the newest {len(tasks)} of them" if count > len(tasks) else ""
    return Answer(heading, views.task_list(tasks, heading=heading))


async def _approve(conn: Connection, context: Context, _: Run) -> Answer:
    return Answer(*await approvals.list_bills(conn, context.responder, context.caller, context.user))


async def _reminders(conn: Connection, context: Context, command: Run) -> Answer:
    user_id, settings = context.user.id, context.responder.settings
    if command.words:
        return Answer(*await reminders.turn(conn, user_id, on=command.words == "on", settings=settings))
    return Answer(*reminders.state(on=await reminders.is_on(conn, user_id, settings=settings)))


SUBCOMMANDS: dict[str, Callable[[Connection, Context, Run], Awaitable[Answer]]] = {
    "start": _start, "switch": _switch, "stop": _stop, "note": _note, "log": _log, "today": _today, "week": _today,
    "status": _status, "list": _list, "approve": _approve, "reminders": _reminders,
}  # fmt: skip
