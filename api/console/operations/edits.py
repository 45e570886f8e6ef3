"""Correcting the body of a dead letter: checked first, with the difference to the present body, then saved and replayed."""

import json
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import Field

from api.auth.auth import require_admin
from api.console.forms import Form, FormModel, read_form
from api.console.gone import gone_if_missing
from api.console.operations.dead_letters import PATH, as_text
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from api.http.limits.json_text import Bounds, parse_json
from api.http.problems import BadRequest
from schemas.errors import Conflict
from schemas.hours.entry_rules import EntryRules, check_edited
from schemas.masking import Redactor
from schemas.outbox.dead_letters import details, edits
from schemas.outbox.dead_letters.actions import Reason
from schemas.outbox.dead_letters.details import DeadLetterDetail, difference
from schemas.outbox.dead_letters.edits import Edit

NOT_DEAD = "The message is {state}; only a dead one can be edited."
BOUNDS = Bounds(values=10_000)  # a message may have a list of a thousand ids


class EditForm(FormModel):
    """The whole body as JSON. `shown_replays`: how often the message had been replayed when it was shown."""

    UNSEEN = frozenset({"shown_replays", "step"})

    body: str
    reason: Reason
    shown_replays: Annotated[int, Field(ge=0)]
    step: Literal["check", "save"] = "check"


@get(f"{PATH}/{{letter_id:str}}/edit", guards=[require_admin])
async def show_edit(request: ApiRequest, letter_id: FromPath[UUID]) -> Response[bytes]:
    """The body to correct. Raises NotFound, and Conflict for what cannot be edited."""
    return _show(request, await _letter(request, letter_id), Form[EditForm]())


@post(f"{PATH}/{{letter_id:str}}/edit", guards=[require_admin], status_code=303)
async def edit(request: ApiRequest, letter_id: FromPath[UUID]) -> Response[bytes]:
    """Checks the body and shows the difference; or, with `step=save`, saves it and replays the message."""
    form = await read_form(request, EditForm)
    message = await _letter(request, letter_id, form, any_state=True)
    body = _read_body(form)
    if form.value is None or body is None:
        return _show(request, message, form)
    redactor, sent = Redactor(request.settings), form.value
    check = partial(check_edited, rules=EntryRules.of(request.settings))
    with form.catching():
        async with request.database.transaction() as conn:
            if sent.step == "save":
                await edits.edit(
                    conn, letter_id, Edit(body=body, reason=sent.reason), redactor, check=check,
                    who=request.user.email or str(request.user.id), shown_replays=sent.shown_replays,
                )  # fmt: skip
            else:
                await edits.validated_body(conn, letter_id, body, redactor, check=check, shown_replays=sent.shown_replays)
        if sent.step == "save":
            return redirect(f"{PATH}/{letter_id}", "The body was corrected, and the message is sent again.")
        return _show(request, message, form, checked=body, changed=difference(message.body, redactor.json(body)))
    return _show(request, message, form)


async def _letter(
    request: ApiRequest, letter_id: UUID, form: Form[EditForm] | None = None, *, any_state: bool = False
) -> DeadLetterDetail:
    async with request.database.connection() as conn:
        with gone_if_missing("message", PATH, "the dead letters", form):
            message = await details.get_detail(
                conn, letter_id, Redactor(request.settings), zone=request.settings.stint_timezone
            )
    if message.kind == "unrecognized":
        raise Conflict("An unrecognized message cannot be edited, because no actor handles it.")
    if message.state != "dead" and not any_state:
        raise Conflict(NOT_DEAD.format(state=message.state))
    return message


def _read_body(form: Form[EditForm]) -> dict[str, Any] | None:
    """The body that was typed; None, with an error in the form, if it is no JSON object."""
    try:
        body = parse_json(form.get("body").encode(), BOUNDS)
    except BadRequest as error:
        form.errors.setdefault("body", error.detail)
        return None
    if not isinstance(body, dict):
        form.errors.setdefault("body", "Send a JSON object: the fields of the message with their values, in braces.")
        return None
    return body


def _show(
    request: ApiRequest,
    message: DeadLetterDetail,
    form: Form[EditForm],
    *,
    checked: dict[str, Any] | None = None,
    changed: list[str] | None = None,
) -> Response[bytes]:
    """The page. `checked`: the body that is valid; `changed`: the difference to the present one."""
    if message.state != "dead":
        form.is_gone(NOT_DEAD.format(state=message.state))
    return page(
        request,
        "dead-letters/edit.html",
        status=422 if form.is_wrong else 200,
        message=message,
        form=form,
        body=as_text(message.body),
        checked=None if checked is None else json.dumps(checked, ensure_ascii=False, indent=2),
        is_same=checked == message.body,
        changed=changed or [],
    )
