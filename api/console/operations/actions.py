"""Replaying, discarding and restoring dead letters. The page of each says how many it would concern, which is its dry run; the
form then acts on just these, or is refused if somebody else has acted meanwhile."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from litestar import Response, get, post
from pydantic import Field

from api.auth.auth import require_admin
from api.console.forms import Form, read_form, read_pairs, read_query
from api.console.operations.dead_letters import PATH
from api.console.operations.selections import SelectionForm, filter_of, pairs_of, select_of
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from schemas.base import Instant
from schemas.outbox.dead_letters import actions, replays, selecting
from schemas.outbox.dead_letters.actions import Action, Reason
from schemas.outbox.dead_letters.replays import DEFAULT_RATE, NewReplay
from schemas.outbox.dead_letters.selecting import MAX_IDS, DeadLetterState, Select, check_count, check_in_replays
from schemas.postgres.connection import Connection

NOTHING_CHOSEN = "Nothing is chosen. Choose dead letters in the list, or a group."
NONE_LEFT = "None of these is left. Go back to the list."


class ActionForm(SelectionForm):
    """What to do and why, and what the page had shown: how many dead letters, how many of them a replay was going to send, and
    when."""

    UNSEEN = SelectionForm.UNSEEN | {"shown", "in_replays", "shown_at"}

    reason: Reason
    shown: Annotated[int, Field(ge=0)]
    in_replays: Annotated[int, Field(ge=0)] = 0
    shown_at: Instant
    rate_per_second: Annotated[float, Field(gt=0, le=10_000)] = DEFAULT_RATE
    canary: Annotated[int | None, Field(ge=1, le=MAX_IDS)] = None


@dataclass(frozen=True)
class Kind:
    """One of the three actions, and the state of what it is for."""

    name: Literal["replay", "discard", "restore"]
    state: DeadLetterState
    done: str


REPLAY = Kind("replay", "dead", "sent again")
DISCARD = Kind("discard", "dead", "discarded. Discarded ones are kept, and can be restored")
RESTORE = Kind("restore", "discarded", "restored")


@get(f"{PATH}/replay", guards=[require_admin])
async def show_replay(request: ApiRequest) -> Response[bytes]:
    """How many dead letters a replay would send, and its form."""
    return await _show(request, REPLAY, read_query(request, SelectionForm))


@post(f"{PATH}/replay", guards=[require_admin], status_code=303)
async def replay(request: ApiRequest) -> Response[bytes]:
    """Starts the replay."""
    return await _act(request, REPLAY)


@get(f"{PATH}/discard", guards=[require_admin])
async def show_discard(request: ApiRequest) -> Response[bytes]:
    """How many dead letters would be discarded, and the form."""
    return await _show(request, DISCARD, read_query(request, SelectionForm))


@post(f"{PATH}/discard", guards=[require_admin], status_code=303)
async def discard(request: ApiRequest) -> Response[bytes]:
    """Discards them."""
    return await _act(request, DISCARD)


@get(f"{PATH}/restore", guards=[require_admin])
async def show_restore(request: ApiRequest) -> Response[bytes]:
    """How many discarded dead letters would be restored, and the form."""
    return await _show(request, RESTORE, read_query(request, SelectionForm))


@post(f"{PATH}/restore", guards=[require_admin], status_code=303)
async def restore(request: ApiRequest) -> Response[bytes]:
    """Restores them."""
    return await _act(request, RESTORE)


async def _show(request: ApiRequest, kind: Kind, chosen: Form[SelectionForm], sent: Form[Any] | None = None) -> Response[bytes]:
    """The page of the action, with what it would concern now. `sent`: the form that was sent, and what is wrong with it."""
    filters, found = filter_of(chosen, ZoneInfo(request.settings.stint_timezone)), None
    form, selection = sent or chosen, chosen.value
    if selection is not None and filters is not None:
        if selection.is_empty:
            form.say(NOTHING_CHOSEN)
        else:
            async with request.database.connection() as conn:
                select = select_of(selection, filters, None)
                found = await selecting.preview(conn, select, kind.state, with_unrecognized=kind is not REPLAY)
    if found is None:
        form.is_gone(NOTHING_CHOSEN)
    elif not found.count:
        form.is_gone(NONE_LEFT)
    return page(
        request,
        "dead-letters/act.html",
        status=422 if form.is_wrong else 200,
        kind=kind,
        form=form,
        default_rate=int(DEFAULT_RATE),
        found=found,
        selection=pairs_of(chosen),
        letter_id=selection.ids[0] if selection is not None and len(selection.ids) == 1 else None,
    )


async def _act(request: ApiRequest, kind: Kind) -> Response[bytes]:
    form = await read_form(request, ActionForm)
    filters = filter_of(form, ZoneInfo(request.settings.stint_timezone))
    if form.value is not None and filters is not None and not form.value.is_empty:
        who = request.user.email or str(request.user.id)
        with form.catching():
            if form.value.shown == 0:
                form.say(NONE_LEFT)
            else:
                select = select_of(form.value, filters, form.value.shown_at)
                async with request.database.transaction() as conn:
                    target = await _run(conn, kind, form.value, select, who)
                return redirect(target, f"{form.value.shown:,} {_nouns(form.value.shown)} {kind.done}.")
    return await _show(request, kind, read_pairs(pairs_of(form), SelectionForm), form)


async def _run(conn: Connection, kind: Kind, sent: ActionForm, select: Select, who: str) -> str:
    """Acts, and returns the page to show next. Raises Conflict if it concerns another number than was shown, and if another
    replay was started meanwhile that will send some of them."""
    if kind.state == "dead":
        await check_in_replays(conn, select, sent.in_replays)
    if kind is REPLAY:
        options = {"reason": sent.reason, "ratePerSecond": sent.rate_per_second, "canary": sent.canary}
        started = await replays.start_replay(conn, NewReplay.model_validate({"select": select, **options}), who=who)
        check_count(sent.shown, started.selected)
        return f"{PATH}/replays/{started.id}"
    act = actions.discard if kind is DISCARD else actions.restore
    result = await act(conn, Action(select=select, reason=sent.reason), who=who)
    check_count(sent.shown, result.count)
    return f"{PATH}/{sent.ids[0]}" if len(sent.ids) == 1 else PATH


def _nouns(count: int) -> str:
    return "dead letter is" if count == 1 else "dead letters are"
