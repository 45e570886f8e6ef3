"""Approving time bills in Slack: `/task approve`, the buttons of its list and of the message of the day, and the form with
which bills are rejected."""

from typing import Any

from litestar import Response
from pydantic import ValidationError

from api.http.problems import BadRequest
from api.slack.deadlines import time_left
from api.slack.outcomes import Attempt
from api.slack.responder import CannotAnswer, Responder, empty_response
from schemas.errors import RetryAfter
from schemas.identity.users import User
from schemas.messages import ShowApprovals
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import deduplication
from schemas.slack.approvals import blocks, daily, decisions, pending, rejection_form, seen
from schemas.slack.approvals.blocks import APPROVE_BILLS, REJECT_BILLS
from schemas.slack.approvals.decisions import Outcome
from schemas.slack.approvals.pending import ShownBill
from schemas.slack.approvals.rejection_form import BILLS, REASON, ListOrigin
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable, is_response_url
from schemas.slack.home import homes
from schemas.slack.home.view import SHOW_BILLS
from schemas.slack.members import Caller
from schemas.slack.payloads import Action, BlockActions, ViewSubmission

ACTIONS = {APPROVE_BILLS, REJECT_BILLS, SHOW_BILLS}
OPEN_VIEW_SECONDS = 1.5
ONLY_ADMINS = "Only an admin can approve or reject time bills."
NO_BUTTON = "This button does not belong to a list of time bills. `/task approve` shows the list."
FORM_UNKNOWN = "This is not one of Stint's forms."
NOT_OPENED = "Sorry, Slack did not open the form ({why}). Please try again."
NO_REASON = "Write why, in at most 2,000 characters."
NO_BILL_SELECTED = "Select the time bills from the list."
LIST_SENT = "The whole list comes as a direct message: see *Messages*, above."
ALREADY_OPENED = "exchanged_trigger_id"  # Slack has sent the press twice


async def list_bills(
    conn: Connection, responder: Responder, caller: Caller, user: User
) -> tuple[str, list[dict[str, Any]] | None]:
    """The answer to `/task approve`: the time bills to approve, in a mapped channel those of its customer."""
    if not user.is_admin:
        return ONLY_ADMINS, None
    zone = responder.settings.stint_timezone
    bills = await pending.list_pending(conn, zone=zone, only_customer=caller.only_customer)
    return blocks.bill_list(bills, app_url=responder.settings.app_url)


async def press(responder: Responder, pressed: BlockActions, action: Action) -> Response[Any]:
    """Approves the bills of a button, opens the form to reject them, or sends the whole list."""
    attempt = Attempt(f"trigger:{pressed.trigger_id}")
    run = {APPROVE_BILLS: _approve, REJECT_BILLS: _open_form, SHOW_BILLS: _send_list}[action.action_id]
    await responder.answer_behind(run(responder, pressed, action, attempt), pressed, attempt)
    return empty_response()


async def _approve(responder: Responder, pressed: BlockActions, action: Action, attempt: Attempt) -> str | None:
    """Approves, once for each press. Returns the reason if the caller is refused."""
    caller, bills = await _find_admin(responder, pressed), seen.parse(action.text)
    if caller.user is None or not bills:
        return caller.refusal or NO_BUTTON
    async with responder.transaction() as conn:
        attempt.began = True
        if not await deduplication.record_once(conn, attempt.key):
            return None
        zone = responder.settings.stint_timezone
        outcome = await decisions.approve(conn, bills, by=caller.user, zone=zone, only_customer=caller.only_customer)
        await _show(conn, pressed.response_url, outcome, caller, caller.user)
    return None


async def _send_list(responder: Responder, pressed: BlockActions, _: Action, attempt: Attempt) -> str | None:
    """Sends the list as a direct message, which has its own buttons. Returns the reason if the caller is refused."""
    caller = await _find_admin(responder, pressed)
    if caller.user is None:
        return caller.refusal
    async with responder.transaction() as conn:
        attempt.began = True
        if await deduplication.record_once(conn, attempt.key):
            await homes.tell(conn, caller.slack_id, LIST_SENT)
            await daily.send_now(conn, caller.user.id, settings=responder.settings)
    return None


async def _find_admin(responder: Responder, request: BlockActions | ViewSubmission, channel_id: str | None = None) -> Caller:
    """The caller. One who is no admin is refused."""
    if isinstance(request, BlockActions):
        channel_id = request.channel.id if request.channel else None
    caller = await responder.find_caller(request.user.id, team_id=request.team_id, channel_id=channel_id)
    if caller.user is not None and not caller.user.is_admin:
        return Caller(caller.slack_id, None, ONLY_ADMINS, caller.channel, caller.fresh)
    return caller


async def _show(conn: Connection, response_url: str | None, outcome: Outcome, caller: Caller, by: User) -> None:
    """Shows the result of a decision above the present list: in the message of the pressed button, or in the App Home."""
    if response_url is None:
        await homes.tell(conn, caller.slack_id, outcome.text)
        return
    message = ShowApprovals(response_url=response_url, user_id=by.id, customer_id=caller.only_customer, text=outcome.text)
    await outbox.enqueue(conn, message, created_by=by.id)


async def _open_form(responder: Responder, pressed: BlockActions, action: Action, attempt: Attempt) -> str | None:
    """Opens the form for those of the button's bills that have not changed since they were shown. If all have changed, the list
    is shown again instead. Returns the reason if there is no form."""
    caller, shown = await _find_admin(responder, pressed), seen.parse(action.text)
    if caller.user is None or not shown:
        return caller.refusal or NO_BUTTON
    ids = [bill.id for bill in shown]

    async def look_up(conn: Connection) -> dict[Any, ShownBill]:
        return await pending.get_bills(conn, ids, only_customer=caller.only_customer)

    now = await responder.query(look_up)
    same = [
        now[bill.id]
        for bill in shown
        if bill.id in now and (now[bill.id].status, now[bill.id].version) == ("pending", bill.version)
    ]
    left_out = [decisions.why_left_out(now.get(bill.id)) for bill in shown if now.get(bill.id) not in same]
    if not same:
        async with responder.transaction() as conn:
            attempt.began = True
            if await deduplication.record_once(conn, attempt.key):
                outcome = Outcome(blocks.lines(left_out), is_complete=False)
                await _show(conn, pressed.response_url, outcome, caller, caller.user)
        return None
    same.sort(key=lambda bill: (bill.date, bill.pillar))
    origin = ListOrigin(response_url=pressed.response_url or "", channel_id=pressed.channel.id if pressed.channel else None)
    view = rejection_form.form(same, left_out=left_out, origin=origin)
    try:
        seconds = max(0.3, min(OPEN_VIEW_SECONDS, time_left()))
        await responder.open_view(pressed.trigger_id, view, seconds=seconds)
    except SlackAccessLost as error:
        raise responder.access_lost(error) from error
    except SlackRefused as error:
        return NOT_OPENED.format(why=error.code) if error.code != ALREADY_OPENED else None
    except (SlackUnavailable, RetryAfter):
        return NOT_OPENED.format(why="it does not answer")
    return None


async def submit(responder: Responder, submission: ViewSubmission) -> Response[Any]:
    """Rejects the selected bills, once for each form. Errors are shown in the form, which keeps its values; the reasons why a
    bill was not rejected, instead of the form."""
    origin = ListOrigin.parse(submission.view.private_metadata)
    if origin is None or (origin.response_url and not is_response_url(origin.response_url, responder.settings)):
        raise BadRequest(400, FORM_UNKNOWN)
    try:
        answer = await responder.in_time(_reject(responder, submission, origin))
    except CannotAnswer as error:
        answer = _errors(REASON, f"{error} Each bill is rejected once, however often you press.")
    return Response(answer, status_code=200) if answer else empty_response()


def _errors(block_id: str, text: str) -> dict[str, Any]:
    return {"response_action": "errors", "errors": {block_id: text}}


async def _reject(responder: Responder, submission: ViewSubmission, origin: ListOrigin) -> dict[str, Any] | None:
    view = submission.view
    caller = await _find_admin(responder, submission, origin.channel_id)
    if caller.user is None:
        return _errors(REASON, caller.refusal or "")
    bills = seen.parse(" ".join(view.selected(BILLS)))
    if not bills:
        return _errors(BILLS, NO_BILL_SELECTED)
    try:
        async with responder.transaction() as conn:
            if not await deduplication.record_once(conn, f"view:{view.id}"):
                return None
            outcome = await decisions.reject(
                conn,
                bills,
                view.field(REASON)[1] or "",
                by=caller.user,
                zone=responder.settings.stint_timezone,
                only_customer=caller.only_customer,
            )
            await _show(conn, origin.response_url or None, outcome, caller, caller.user)
    except ValidationError:  # of the reason
        return _errors(REASON, NO_REASON)
    if outcome.is_complete:
        return None
    return {"response_action": "update", "view": rejection_form.result(outcome.text).to_dict()}
