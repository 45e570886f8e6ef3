"""Dead letters, for administrators: the same as `./stint dead`, over HTTP."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from pydantic import TypeAdapter, ValidationError

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import admin
from api.dependencies import TheDatabase, TheUser
from schemas import dead_letters, letter_moves, replays
from schemas.base import Instant
from schemas.dead_letters import DeadLetter, Groups, LetterFilter, LetterState, WholeLetter
from schemas.errors import Invalid
from schemas.letter_moves import Edit, Move, Moved
from schemas.listing import Page
from schemas.replays import NewReplay, Replay

Since = Annotated[
    str | None,
    QueryParameter(
        name="since",
        max_length=40,
        description="Only those that died then or later: a time (RFC 3339)",
        schema_extra={"format": "date-time"},
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        name="until",
        max_length=40,
        description="Only those that died before: a time (RFC 3339)",
        schema_extra={"format": "date-time"},
    ),
]
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Instant)


def _moment(name: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else _MOMENT.validate_python(text)
    except ValidationError:
        raise Invalid(name, "Send a time such as 2026-11-25T09:30:00Z.") from None


@get("/api/dead-letters", summary="List dead letters", guards=[admin])
async def list_dead_letters(
    database: TheDatabase,
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
    letter_state: Annotated[LetterState, QueryParameter(name="state", description="Dead, or discarded by somebody")] = "dead",
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> Response[Listed[DeadLetter]]:
    """Messages that nobody will try again by themselves, and foreign letters, the latest death first. Secrets are masked."""
    chosen = LetterFilter(
        actor=actor, queue=queue, fingerprint=fingerprint, since=_moment("since", since), until=_moment("until", until), q=q
    )
    async with database.connection() as conn:
        return json_answer(await dead_letters.list_page(conn, Page(limit, page_cursor), chosen, state=letter_state))


@get("/api/dead-letters/groups", summary="What letters die of", guards=[admin])
async def list_dead_letter_groups(database: TheDatabase) -> Groups:
    """Dead letters by actor, error and the innermost place of ours, the latest death first."""
    async with database.connection() as conn:
        return await dead_letters.groups(conn)


@get("/api/dead-letters/{letter_id:uuid}", summary="Read a dead letter", guards=[admin])
async def get_dead_letter(database: TheDatabase, letter_id: FromPath[UUID]) -> WholeLetter:
    """One message or foreign letter with all that is known of it: its body with secrets masked, every attempt with its
    traceback, what caused it and what it caused, and what was done to it."""
    async with database.connection() as conn:
        return await dead_letters.show(conn, letter_id)


@post("/api/dead-letters/replay", summary="Replay dead letters", guards=[admin], status_code=202)
async def replay_dead_letters(database: TheDatabase, user: TheUser, data: JSONBody[NewReplay]) -> Replay:
    """Sends a selection again, which is frozen now: as fast as `ratePerSecond` says, after a `canary` if one is asked for. With
    `dryRun` nothing is sent. Letters that are under way or done are left alone, so that replaying twice does nothing twice."""
    async with database.transaction() as conn:
        return await replays.begin(conn, data, who=user.email or str(user.id))


@get("/api/dead-letters/replays/{replay_id:uuid}", summary="Follow a replay", guards=[admin])
async def get_replay(database: TheDatabase, replay_id: FromPath[UUID]) -> Replay:
    """How many were selected, sent, succeeded, and died again."""
    async with database.connection() as conn:
        return await replays.read(conn, replay_id)


@delete("/api/dead-letters/replays/{replay_id:uuid}", summary="Cancel a replay", guards=[admin])
async def cancel_replay(database: TheDatabase, replay_id: FromPath[UUID]) -> None:
    """What was not sent yet stays dead. 409 for a replay that has ended."""
    async with database.transaction() as conn:
        await replays.cancel(conn, replay_id)


@post("/api/dead-letters/discard", summary="Discard dead letters", guards=[admin], status_code=200)
async def discard_dead_letters(database: TheDatabase, user: TheUser, data: JSONBody[Move]) -> Moved:
    """Puts letters away that nobody needs done. They are kept, and can be restored. Foreign letters, too: what a
    filter lists, it discards."""
    async with database.transaction() as conn:
        return await letter_moves.discard(conn, data, who=user.email or str(user.id))


@post("/api/dead-letters/restore", summary="Restore discarded letters", guards=[admin], status_code=200)
async def restore_dead_letters(database: TheDatabase, user: TheUser, data: JSONBody[Move]) -> Moved:
    """Makes discarded letters dead ones again."""
    async with database.transaction() as conn:
        return await letter_moves.restore(conn, data, who=user.email or str(user.id))


@post("/api/dead-letters/{letter_id:uuid}/edit", summary="Correct and replay a dead letter", guards=[admin], status_code=200)
async def edit_dead_letter(
    database: TheDatabase, user: TheUser, letter_id: FromPath[UUID], data: JSONBody[Edit]
) -> WholeLetter:
    """Replays one dead letter with another body, which has to fit its actor: 422 names the field that does not. What is left as
    it was shown masked keeps its secret."""
    async with database.transaction() as conn:
        await letter_moves.edit(conn, letter_id, data, who=user.email or str(user.id))
        return await dead_letters.show(conn, letter_id)
