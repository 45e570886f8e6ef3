"""Reminders in Slack of missing hours and of a running timer, and the summary of the week before."""

from actors import direct
from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.messages import RemindOfHours
from schemas.settings import settings
from schemas.slack.reminders import messages


@handles(RemindOfHours, calls_out=True)
async def remind_of_hours(call: ExternalCall) -> None:
    """Sends a person the message of the day about their hours, if it still has something to say."""
    async with call.start() as (conn, message):
        ready = await direct.prepare(conn, call, await messages.build(conn, message, settings=settings()))
    assert ready is not None
    await direct.post(call, *ready, again=lambda conn: messages.build(conn, message, settings=settings()))
