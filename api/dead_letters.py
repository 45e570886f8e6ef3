"""Dead letters, for administrators: the same as `./stint dead`, over HTTP."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from pydantic import TypeAdapter, ValidationError

from api.auth.auth import require_admin
from api.dependencies import ApiRequest
from api.http.responses import Cursor, Limit, Listed, ListQuery, json_response
from schemas.base import Instant
from schemas.errors import Invalid
from schemas.hours.entry_rules import EntryRules, check_edited
from schemas.masking import Redactor
from schemas.outbox import triggers
from schemas.outbox.dead_letters import actions, details, edits, groups, lists, replays
from schemas.outbox.dead_letters.actions import Action, ActionResult, check_reason
from schemas.outbox.dead_letters.details import DeadLetterDetail
from schemas.outbox.dead_letters.edits import Edit
from schemas.outbox.dead_letters.groups import Groups
from schemas.outbox.dead_letters.lists import DeadLetter
from schemas.outbox.dead_letters.replays import NewReplay, Replay, Replays
from schemas.outbox.dead_letters.selecting import DeadLetterFilter, DeadLetterState
from schemas.outbox.triggers import Trigger, Triggered
from schemas.postgres.listing import Page

Since = Annotated[
    str | None,
    QueryParameter(
        name="since",
        max_length=40,
        description="Only those that died at this time (RFC 3339) or later",
        schema_extra={"format": "date-time"},
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        name="until",
        max_length=40,
        description="Only those that died before this time (RFC 3339)",
        schema_extra={"format": "date-time"},
    ),
]
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


def _parse_time(name: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else _INSTANT.validate_python(text)
    except ValidationError:
        raise Invalid(name, "Send a time such as 2026-11-25T09:30:00Z.") from None


@dataclass(frozen=True)
class DeadLetterQuery(ListQuery[DeadLetterFilter]):
    """The whole query of the list of dead letters."""

    state: DeadLetterState = "dead"


def get_list_query(
    actor: Annotated[str | None, QueryParameter(name="actor", max_length=100, description="Only this actor's")] = None,
    queue: Annotated[str | None, QueryParameter(name="queue", max_length=100, description="Only this queue's")] = None,
    fingerprint: Annotated[
        str | None, QueryParameter(name="fingerprint", max_length=64, description="Only this group's")
    ] = None,
    since: Since = None,
    until: Until = None,
    q: Annotated[
        str | None, QueryParameter(name="q", min_length=1, max_length=200, description="Text in the error or the body")
    ] = None,
    letter_state: Annotated[DeadLetterState, QueryParameter(name="state", description="`dead`, or `discarded`")] = "dead",
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> DeadLetterQuery:
    """The query of the list. Raises Invalid for a time that cannot be parsed."""
    filters = DeadLetterFilter(
        actor=actor,
        queue=queue,
        fingerprint=fingerprint,
        since=_parse_time("since", since),
        until=_parse_time("until", until),
        q=q,
    )
    return DeadLetterQuery(filters, Page(limit, page_cursor), state=letter_state)


@get(
    "/api/dead-letters",
    summary="List dead letters",
    guards=[require_admin],
    dependencies={"list_query": Provide(get_list_query, sync_to_thread=False)},
)
async def list_dead_letters(request: ApiRequest, list_query: NamedDependency[DeadLetterQuery]) -> Response[Listed[DeadLetter]]:
    """Messages that will not be retried automatically, and unrecognized messages, the latest death first. Secrets are
    masked."""
    redactor = Redactor(request.settings)
    async with request.database.connection() as conn:
        page = await lists.list_page(conn, list_query.page, list_query.filters, redactor, state=list_query.state)
    return json_response(page)


@get("/api/dead-letters/groups", summary="List groups of dead letters", guards=[require_admin])
async def list_dead_letter_groups(request: ApiRequest) -> Groups:
    """Dead letters in groups, the latest death first. Those of a group have the same actor, error, words of the error,
    and innermost stack frame in Stint's own code. Unrecognized messages are grouped by queue and reason."""
    async with request.database.connection() as conn:
        return await groups.list_groups(conn, Redactor(request.settings))


@post("/api/dead-letters/trigger", summary="Have work done again", guards=[require_admin], status_code=202)
async def trigger_work(request: ApiRequest, data: JSONBody[Trigger]) -> Triggered:
    """Starts work although nothing has failed: recalculates the sum of one time bill, syncs one time bill to Xero, or moves the
    entries of one task to the right time bills.

    Each can be repeated any number of times with the same effect. If a message waits for this work already, there is no second
    one. A dead letter of this work is replayed. The history of the message has your address and the reason."""
    who = request.user.email or str(request.user.id)
    async with request.database.transaction() as conn:
        return await triggers.trigger(conn, data, who=who, created_by=request.user.id)


@get("/api/dead-letters/{letter_id:str}", summary="Read a dead letter", guards=[require_admin])
async def get_dead_letter(request: ApiRequest, letter_id: FromPath[UUID]) -> DeadLetterDetail:
    """Everything about one message, or one unrecognized message: its body with masked secrets, every attempt with its
    traceback, the message that has caused it, the messages that it has caused, and its history."""
    async with request.database.connection() as conn:
        return await details.get_detail(conn, letter_id, Redactor(request.settings), zone=request.settings.stint_timezone)


@post("/api/dead-letters/replay", summary="Replay dead letters", guards=[require_admin], status_code=202)
async def replay_dead_letters(request: ApiRequest, data: JSONBody[NewReplay]) -> Replay:
    """Sends dead letters again. Which ones is decided now, by the selection.

    They are sent at `ratePerSecond`, and after a `canary`, if these are given. At any rate, only few are under way at a time,
    so that other messages do not wait for them. With `dryRun` nothing is sent.

    Messages that are not dead are skipped. So two replays do not do the same work twice."""
    async with request.database.transaction() as conn:
        return await replays.start_replay(conn, data, who=request.user.email or str(request.user.id))


@get("/api/dead-letters/replays", summary="List replays", guards=[require_admin])
async def list_replays(request: ApiRequest) -> Replays:
    """The replays that run, then those that have ended, the latest first; at most 100. A replay is deleted
    `STINT_PRUNE_DAYS` after its end."""
    async with request.database.connection() as conn:
        return await replays.list_replays(conn)


@get("/api/dead-letters/replays/{replay_id:str}", summary="Follow a replay", guards=[require_admin])
async def get_replay(request: ApiRequest, replay_id: FromPath[UUID]) -> Replay:
    """A replay and its progress: how many were selected, sent, succeeded, and died again."""
    async with request.database.connection() as conn:
        return await replays.get_replay(conn, replay_id)


CancelReason = Annotated[
    str | None, QueryParameter(name="reason", max_length=500, description="Why, recorded with your address")
]


@delete("/api/dead-letters/replays/{replay_id:str}", summary="Cancel a replay", guards=[require_admin])
async def cancel_replay(request: ApiRequest, replay_id: FromPath[UUID], reason: CancelReason = None) -> None:
    """Ends a running replay. Messages that were not sent stay dead. 409 for a replay that has ended."""
    if reason is not None:
        check_reason(reason)
    async with request.database.transaction() as conn:
        await replays.cancel(conn, replay_id, who=request.user.email or str(request.user.id), reason=reason)


@post("/api/dead-letters/discard", summary="Discard dead letters", guards=[require_admin], status_code=200)
async def discard_dead_letters(request: ApiRequest, data: JSONBody[Action]) -> ActionResult:
    """Discards dead letters whose work nobody needs, and unrecognized messages. They are kept, and can be restored. A filter
    discards what it lists. With `dryRun` nothing is changed."""
    async with request.database.transaction() as conn:
        return await actions.discard(conn, data, who=request.user.email or str(request.user.id))


@post("/api/dead-letters/restore", summary="Restore discarded dead letters", guards=[require_admin], status_code=200)
async def restore_dead_letters(request: ApiRequest, data: JSONBody[Action]) -> ActionResult:
    """Makes discarded dead letters dead again. With `dryRun` nothing is changed."""
    async with request.database.transaction() as conn:
        return await actions.restore(conn, data, who=request.user.email or str(request.user.id))


@post(
    "/api/dead-letters/{letter_id:str}/edit",
    summary="Correct and replay a dead letter",
    guards=[require_admin],
    status_code=200,
)
async def edit_dead_letter(request: ApiRequest, letter_id: FromPath[UUID], data: JSONBody[Edit]) -> DeadLetterDetail:
    """Replays one dead letter with another body. The body must be valid for its actor: 422 names a field that is not. A masked
    value that is sent as it was shown keeps its secret. The times of a stop have the same limits as those of an entry."""
    redactor = Redactor(request.settings)
    async with request.database.transaction() as conn:
        check = partial(check_edited, rules=EntryRules.of(request.settings))
        await edits.edit(conn, letter_id, data, redactor, check=check, who=request.user.email or str(request.user.id))
        return await details.get_detail(conn, letter_id, redactor, zone=request.settings.stint_timezone)
