"""Pages of replays: all of them, and one with its progress."""

from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_admin
from api.console.forms import FormModel, read_form
from api.console.gone import gone_if_missing
from api.console.operations.dead_letters import PATH
from api.console.pages import fragment, is_htmx, page, redirect
from api.dependencies import ApiRequest
from schemas.errors import Conflict
from schemas.outbox.dead_letters import replays
from schemas.outbox.dead_letters.actions import Reason


@get(f"{PATH}/replays", guards=[require_admin])
async def show_replays(request: ApiRequest) -> Response[bytes]:
    """All replays, running ones first."""
    async with request.database.connection() as conn:
        found = await replays.list_replays(conn)
    return page(request, "dead-letters/replays.html", replays=found.items)


@get(f"{PATH}/replays/{{replay_id:str}}", guards=[require_admin])
async def show_replay(request: ApiRequest, replay_id: FromPath[UUID]) -> Response[bytes]:
    """One replay; for htmx only its progress, while it runs."""
    async with request.database.connection() as conn:
        with gone_if_missing("replay", f"{PATH}/replays", "the replays"):
            found = await replays.get_replay(conn, replay_id)
    if is_htmx(request):
        return fragment(request, "dead-letters/progress.html", replay=found)
    return page(request, "dead-letters/replay.html", replay=found)


class CancelForm(FormModel):
    """Why the replay is cancelled."""

    reason: Reason


@post(f"{PATH}/replays/{{replay_id:str}}/cancel", guards=[require_admin], status_code=303)
async def cancel_replay(request: ApiRequest, replay_id: FromPath[UUID]) -> Response[bytes]:
    """Ends a replay; what was not sent stays a dead letter. Raises NotFound."""
    target, form = f"{PATH}/replays/{replay_id}", await read_form(request, CancelForm)
    if form.value is None:
        return redirect(target, f"Nothing was cancelled. {' '.join([*form.errors.values(), *form.general])}", kind="warning")
    try:
        async with request.database.transaction() as conn:
            await replays.cancel(conn, replay_id, who=request.user.email or str(request.user.id), reason=form.value.reason)
    except Conflict as error:
        return redirect(target, error.detail, kind="warning")
    return redirect(target, "The replay was cancelled. What it had not sent stays a dead letter.")
