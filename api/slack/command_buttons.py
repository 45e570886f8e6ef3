"""Buttons that stand for a command: those below the answers to commands, and those of a nudge that name a time.

A press that is repeated changes nothing again, and leaves what the first one has written.
"""

from hashlib import sha256

from api.slack import subcommands
from api.slack.responder import Responder
from api.slack.subcommands import Answer, Context
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.slack import presses
from schemas.slack.commands.log_time import LogDraft
from schemas.slack.commands.views import LOG_TIME, RUN_COMMAND, STOPS_AT, StopAt
from schemas.slack.members import Caller
from schemas.slack.payloads import BlockActions
from schemas.slack.presses import Outcome
from schemas.slack.reminders import buttons as reminders
from schemas.slack.typed import parser
from schemas.slack.typed.parser import Run

# the answer replaces the message, which only the person sees, but for the last two
BUTTONS = {RUN_COMMAND, LOG_TIME} | STOPS_AT | {reminders.TURN_REMINDERS, reminders.HOW_TO_LOG}
BAD_BUTTON = "This button does not belong to a command of this version. Type the command again."
HAS_RUN = "This button has already run its command. To run it once more, type it."


async def run(conn: Connection, responder: Responder, pressed: BlockActions, caller: Caller, user: User) -> Outcome:
    """Runs what the pressed button stands for."""
    value = pressed.actions[0].text or ""
    match pressed.actions[0].action_id:
        case action_id if action_id == RUN_COMMAND:
            key = presses.key(pressed, f"{user.id}:{sha256(value.encode()).hexdigest()}")
            if not await presses.is_first(conn, key):
                return Outcome(HAS_RUN)
            typed = parser.parse_plain(value)
            context = Context(responder, caller, user, key)
            answer = await subcommands.run(conn, context, typed) if isinstance(typed, Run) else Answer(BAD_BUTTON)
            return Outcome(answer.text, answer.blocks, replaces=True)
        case action_id if action_id == LOG_TIME:
            log = LogDraft.parse(value)
            if log is None or log.task_id is None:
                return Outcome(BAD_BUTTON, replaces=True)
            answer = await subcommands.log_on(conn, _context(responder, pressed, caller, user), log)
            return Outcome(answer.text, answer.blocks, replaces=not answer.is_repeat)
        case action_id if action_id == reminders.HOW_TO_LOG:
            return Outcome(reminders.how_to_log(value))
        case action_id if action_id == reminders.TURN_REMINDERS:
            is_on = value == "on"  # this button is only in an answer
            return Outcome(*await reminders.turn(conn, user.id, on=is_on, settings=responder.settings), replaces=is_on)
        case _:
            stop = StopAt.parse(value)
            if stop is None:
                return Outcome(BAD_BUTTON, replaces=True)
            is_first = await presses.is_first(conn, presses.key(pressed, stop.timer_id))
            answer = await subcommands.stop_at(conn, _context(responder, pressed, caller, user), stop)
            return Outcome(answer.text, answer.blocks, replaces=is_first)


def _context(responder: Responder, pressed: BlockActions, caller: Caller, user: User) -> Context:
    return Context(responder, caller, user, f"trigger:{pressed.trigger_id}")
