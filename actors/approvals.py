"""Messages in Slack about time bills: the message of the day to admins, the list after a decision, and to a bill's owner, who
rejected it."""

from actors import direct
from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from actors.slack import CALL_SECONDS, ignore_expired
from schemas.messages import PostApprovals, ShowApprovals, TellRejection
from schemas.settings import settings
from schemas.slack import client
from schemas.slack.approvals import blocks, daily, pending, people, rejections


@handles(PostApprovals, calls_out=True)
async def post_approvals(call: ExternalCall) -> None:
    """Sends an admin the time bills to approve, if there are any."""
    async with call.start() as (conn, message):
        ready = await direct.prepare(conn, call, await daily.build(conn, message, settings=settings()))
    assert ready is not None
    await direct.post(call, *ready)


@handles(TellRejection, calls_out=True)
async def tell_rejection(call: ExternalCall) -> None:
    """Sends the owner of a rejected time bill who rejected it, and why."""
    async with call.start() as (conn, message):
        ready = await direct.prepare(conn, call, await rejections.build(conn, message, settings=settings()))
    assert ready is not None
    await direct.post(call, *ready)


@handles(ShowApprovals, calls_out=True)
async def show_approvals(call: ExternalCall) -> None:
    """Replaces an admin's list by the present one, with the result of a decision above it."""
    known = settings()
    async with call.start() as (conn, message):
        shown: ShowApprovals = message
        heading, listed = "", [blocks.section(shown.text)]
        if await people.find_admin(conn, shown.user_id, settings=known) is not None:
            bills = await pending.list_pending(conn, zone=known.stint_timezone, only_customer=shown.customer_id)
            heading, listed = blocks.bill_list(bills, note=shown.text, app_url=known.app_url)
    content = {"text": f"{shown.text}\n{heading}".strip(), "blocks": listed, "replace_original": True}
    async with call.timeout(), client.open_client(known) as slack:
        await ignore_expired(slack.respond(shown.response_url, content, seconds=CALL_SECONDS))
    async with call.complete():
        pass
