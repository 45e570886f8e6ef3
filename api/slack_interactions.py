"""What people do in Slack with what Stint shows there: send the form, press buttons, pick from lists, choose "Create task"."""

import re
from typing import Any

from litestar import Response

from api.problems import BadRequest
from api.slack_commands import Wanted, open_form
from api.slack_desk import Desk, Sorry, nothing
from schemas import ledger, slack_forms, slack_receipts, slack_tasks
from schemas.clients import slack_views
from schemas.clients.slack_views import CREATE_TASK, CUSTOMER, PILLAR, TASK, TITLE, Choice, Draft
from schemas.database import Connection
from schemas.errors import Conflict, Invalid
from schemas.messages import AnswerSlack
from schemas.slack_payloads import (
    Action,
    AnyInteraction,
    BlockActions,
    BlockSuggestion,
    MessageAction,
    Origin,
    ViewClosed,
    ViewSubmission,
)
from schemas.slack_people import Caller
from schemas.users import User

USED = "This form has made its task already, and said something else then. Close it, and change the task in Stint."
ACTIONS = {slack_views.START_TIMER, slack_views.FINISH_TASK, slack_views.STOP_TIMER, slack_views.KEEP_RUNNING, TASK}


async def answer(desk: Desk, interaction: AnyInteraction) -> Response[Any]:
    """The answer to an interaction, in time whatever is down."""
    match interaction:
        case ViewSubmission():
            return await _submit(desk, interaction)
        case BlockSuggestion():
            return await _suggest(desk, interaction)
        case BlockActions():
            return await _act(desk, interaction)
        case MessageAction():
            return await _create_from_message(desk, interaction)
        case ViewClosed():
            return nothing()


async def _submit(desk: Desk, sent: ViewSubmission) -> Response[Any]:
    """The form's task, or what is wrong with it, shown in the form: what was typed stays there."""
    origin = Origin.read(sent.view.private_metadata)
    if sent.view.callback_id != CREATE_TASK or origin is None:
        raise BadRequest(400, "This form is none of ours.")
    try:
        faults = await desk.in_time(_create(desk, sent, origin))
    except Sorry as sorry:
        faults = {sent.view.field(TITLE)[0]: f"{sorry} It makes one task, however often you press."}
    return Response({"response_action": "errors", "errors": faults}, status_code=200) if faults else nothing()


async def _create(desk: Desk, sent: ViewSubmission, origin: Origin) -> dict[str, str]:
    view, slack_id = sent.view, sent.user.id
    caller = await desk.caller(slack_id, team_id=sent.team.id, channel_id=origin.channel_id)
    title = view.field(TITLE)[0]
    if caller.user is None:
        return {title: caller.refusal or ""}
    try:
        new = slack_forms.read_form(view, team_id=sent.team.id, place=caller.place)
        async with desk.transaction() as conn:
            await slack_forms.create(conn, view, new, by=caller.user, slack_id=slack_id, channel_id=origin.channel_id)
    except Invalid as error:
        return slack_forms.faults(view, error.errors)
    except Conflict:
        return {title: USED}
    return {}


async def _suggest(desk: Desk, typing: BlockSuggestion) -> Response[Any]:
    """What can be picked. Nothing, when that can't be found out, or is not this person's to see."""
    try:
        choices = await desk.in_time(_choices(desk, typing))
    except Sorry:
        choices = []
    return Response(slack_views.options(choices), status_code=200)


async def _choices(desk: Desk, typing: BlockSuggestion) -> list[Choice]:
    origin = Origin.read(typing.view.private_metadata) if typing.view else None
    channel_id = origin.channel_id if origin else typing.channel.id if typing.channel else None
    caller = await desk.caller(typing.user.id, team_id=typing.team.id, channel_id=channel_id)
    if (user := caller.user) is None:
        return []

    async def look(conn: Connection) -> list[Choice]:
        if typing.action_id == TASK:
            return await slack_tasks.offered_tasks(conn, typing.value or "", user_id=user.id, only=caller.only)
        if typing.action_id == CUSTOMER:
            return await slack_tasks.offered_customers(conn, typing.value or "", only=caller.only)
        picked = typing.view.field(CUSTOMER)[1] if typing.view else None
        customer_id = slack_tasks.parse_id(picked or (origin.customer_id if origin else None))
        if typing.action_id != PILLAR or customer_id is None or caller.only not in (None, customer_id):
            return []
        return await slack_tasks.offered_pillars(conn, typing.value or "", customer_id=customer_id)

    return await desk.read(look)


async def _act(desk: Desk, pressed: BlockActions) -> Response[Any]:
    """Does what a button says, and tells who pressed it. In the form, another customer means other pillars."""
    action = pressed.actions[0]
    try:
        if action.action_id == CUSTOMER and pressed.view is not None:
            await desk.in_time(_change_customer(desk, pressed))
        elif action.action_id in ACTIONS:
            refusal = await desk.in_time(_press(desk, pressed, action))
            if refusal:
                raise Sorry(refusal)
    except Sorry as sorry:
        if pressed.response_url is not None:
            desk.begin(desk.say(pressed.response_url, str(sorry)))
    return nothing()


async def _press(desk: Desk, pressed: BlockActions, action: Action) -> str | None:
    channel_id = pressed.channel.id if pressed.channel else None
    caller = await desk.caller(pressed.user.id, team_id=pressed.team.id, channel_id=channel_id)
    if caller.user is None:
        return caller.refusal
    async with desk.transaction() as conn:
        if await slack_receipts.first_time(conn, f"trigger:{pressed.trigger_id}"):
            said = await _do(conn, desk, action, caller, caller.user)
            if pressed.response_url is not None:
                # a nudge is over once it is answered; what others see, too, stays
                is_nudge = action.action_id in (slack_views.STOP_TIMER, slack_views.KEEP_RUNNING)
                told = AnswerSlack(response_url=pressed.response_url, text=said, replace=is_nudge)
                await ledger.put(conn, told, created_by=caller.user.id)
    return None


async def _do(conn: Connection, desk: Desk, action: Action, caller: Caller, user: User) -> str:
    row_id, only, settings = slack_tasks.parse_id(action.text), caller.only, desk.settings
    if row_id is None:
        return slack_tasks.GONE
    match action.action_id:
        case slack_views.FINISH_TASK:
            return await slack_tasks.finish(conn, row_id, by=user, settings=settings, only=only)
        case slack_views.STOP_TIMER:
            return await slack_tasks.stop(conn, by=user, only=only, timer_id=row_id)
        case slack_views.KEEP_RUNNING:
            return await slack_tasks.keep(conn, row_id, by=user, settings=settings, only=only)
        case _:
            return await slack_tasks.start(conn, row_id, by=user, settings=settings, only=only)


async def _change_customer(desk: Desk, pressed: BlockActions) -> None:
    view = pressed.view
    assert view is not None
    origin = Origin.read(view.private_metadata)
    if origin is None:
        raise BadRequest(400, "This form is none of ours.")
    caller = await desk.caller(pressed.user.id, team_id=pressed.team.id, channel_id=origin.channel_id)
    picked = slack_tasks.parse_id(pressed.actions[0].text)
    if caller.user is None or picked is None:
        return

    async def look(conn: Connection) -> Choice | None:
        return await slack_tasks.customer(conn, picked, only=caller.only)

    customer = await desk.read(look)
    draft = Draft(origin.channel_id, view.field("title")[1] or "", view.field("description")[1] or "", customer)
    desk.begin(desk.fill(view.id, slack_views.form(draft)))


async def _create_from_message(desk: Desk, chosen: MessageAction) -> Response[Any]:
    """Opens the form with the message's first line as its title, and its text and link as the description."""
    message = chosen.message
    text = _readable(message.text or "")
    link = _permalink(chosen)
    kept = slack_views.LONGEST_DESCRIPTION - len(link) - 2
    wanted = Wanted(
        chosen.team.id,
        chosen.channel.id,
        chosen.user.id,
        chosen.trigger_id,
        title=text.strip().partition("\n")[0][:200],
        description=f"{text[:kept].strip()}\n\n{link}",
    )
    said = await open_form(desk, wanted)
    if said:
        desk.begin(desk.say(chosen.response_url, said))
    return nothing()


def _permalink(chosen: MessageAction) -> str:
    """Where the message is; a reply is found in its thread."""
    message, channel_id = chosen.message, chosen.channel.id
    url = f"https://{chosen.team.domain or 'app'}.slack.com/archives/{channel_id}/p{message.ts.replace('.', '')}"
    if message.thread_ts is not None and message.thread_ts != message.ts:
        url += f"?thread_ts={message.thread_ts}&cid={channel_id}"
    return url


def _readable(text: str) -> str:
    """A message's text as people see it: `<https://…|label>` is its label and its address, `<@U…>` stays a name of Slack's."""
    text = re.sub(r"<(https?://[^|>]{1,3000})\|([^>]{1,3000})>", r"\2 (\1)", text)
    text = re.sub(r"<(https?://[^|>]{1,3000})>", r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
