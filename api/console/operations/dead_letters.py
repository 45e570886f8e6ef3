"""Pages of dead letters: groups, the list, and one message with what it is about."""

import json
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.params import FromPath

from api.auth.auth import require_admin
from api.console.forms import read_query
from api.console.gone import gone_if_missing
from api.console.operations.selections import ListQuery, filter_of, pairs_of
from api.console.pages import page
from api.dependencies import ApiRequest
from schemas.masking import Redactor
from schemas.messages import MODELS, QUEUES
from schemas.outbox import message_subjects
from schemas.outbox.dead_letters import details, groups, lists, replays
from schemas.outbox.dead_letters.details import difference
from schemas.postgres.listing import Page
from schemas.xero import choices

PATH = "/console/dead-letters"
ROWS = 50  # of a page of the list


@get(PATH, guards=[require_admin])
async def show_groups(request: ApiRequest) -> Response[bytes]:
    """The groups of dead letters, and the replays that run."""
    async with request.database.connection() as conn:
        found = await groups.list_groups(conn, Redactor(request.settings))
        running = [replay for replay in (await replays.list_replays(conn)).items if replay.state == "running"]
    return page(
        request,
        "dead-letters.html",
        groups=found.items,
        dead=found.dead,
        unrecognized=found.unrecognized_groups,
        running=running,
    )


@get(f"{PATH}/list", guards=[require_admin])
async def show_list(request: ApiRequest) -> Response[bytes]:
    """Dead letters that meet the filters in the URL, the latest death first."""
    form, redactor = read_query(request, ListQuery), Redactor(request.settings)
    filters = filter_of(form, ZoneInfo(request.settings.stint_timezone))
    sent = form.value or ListQuery()
    found: dict[str, Any] = {"items": [], "nextCursor": None}
    if filters is not None:
        with form.catching():
            async with request.database.connection() as conn:
                answer = await lists.list_page(
                    conn, Page(ROWS, sent.cursor), filters, redactor, state=sent.state, kind=sent.kind
                )
            found = json.loads(answer)
    return page(
        request,
        "dead-letters/list.html",
        status=422 if form.is_wrong else 200,
        form=form,
        messages=found["items"],
        cursor=found["nextCursor"],
        state=sent.state,
        kind=sent.kind,
        selection=dict(pairs_of(form)),
        actors=[(name, name) for name in sorted(MODELS)],
        queues=[(name, name) for name in QUEUES],
    )


@get(f"{PATH}/{{letter_id:str}}", guards=[require_admin])
async def show_message(request: ApiRequest, letter_id: FromPath[UUID]) -> Response[bytes]:
    """One dead letter, or any other message: its attempts, its body, what it is about, its cause and what it caused."""
    async with request.database.connection() as conn:
        with gone_if_missing("message", PATH, "the dead letters"):
            message = await details.get_detail(
                conn, letter_id, Redactor(request.settings), zone=request.settings.stint_timezone
            )
        created_by = await message_subjects.person_name(conn, message.created_by)
        mapped_to = [message.bill.xero_project_id, message.bill.xero_task_id] if message.bill is not None else []
        names = await choices.names_of(conn, mapped_to) if mapped_to else {}
    return page(
        request,
        "dead-letters/message.html",
        message=message,
        created_by=created_by,
        names=names,
        body=as_text(message.body),
        changes={n: difference(event.before, event.after)[2:] for n, event in enumerate(message.history) if event.before},
    )


def as_text(body: object) -> str:
    """A body as people read it: JSON with indentation; that of an unrecognized message is a text already."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
