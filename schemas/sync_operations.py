"""What a desktop client queued while it was away: each operation in a transaction of its own, in order, and each at most once.

The outcome is written in the transaction of the effect. So a client that never got the answer sends the same again, and gets
the same answer; and one operation that fails takes no other along.
"""

import hashlib
import json
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
from psycopg.errors import UniqueViolation
from psycopg.types.json import Json
from pydantic import Field, ValidationError

from schemas.base import Body, Row, Version
from schemas.changes import TOMBSTONE_DAYS
from schemas.database import Connection
from schemas.errors import Conflict, FieldError, FieldProblem, Forbidden, Invalid, NotFound, in_our_words
from schemas.listing import Gone
from schemas.sync_kinds import KINDS, Asked, Firm
from schemas.tasks import Task
from schemas.time_entries import TimeEntry
from schemas.timers import Stop, Timer
from schemas.users import User

MOST = 500  # operations in one request
KEPT_DAYS = TOMBSTONE_DAYS

Outcome = Literal["applied", "conflict", "rejected"]


class Operation(Body):
    """Something that a client did, and has not been told yet what became of."""

    op_id: Annotated[UUID, Field(description="the client's own; whatever is sent with it is done at most once")]
    kind: Annotated[str, Field(max_length=50, description=", ".join(f"`{kind}`" for kind in KINDS), examples=["entry.notes"])]
    data: Annotated[
        dict[str, Any],
        Field(
            description="the body of the route that does the same, and the `id` of the row",
            examples=[{"id": "0c5f3d0e-52f5-4f0c-8e5e-8f3f6d1c2a4b", "append": "Moved the last mailboxes"}],
        ),
    ]
    base_version: Annotated[
        Version | None, Field(description="the version that the change was made to; null for a new row")
    ] = None

    def fingerprint(self) -> bytes:
        """Tells whether an operation that comes again is the same."""
        asked = [self.kind, self.data, self.base_version]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


class Result(Row):
    """What became of an operation. A `conflict` and a `rejected` changed nothing."""

    op_id: UUID
    outcome: Outcome
    current: Annotated[
        Task | TimeEntry | Timer | Stop | Gone | None,
        Field(description="applied: the row as it was then; conflict: as it is, or null if there is none"),
    ] = None
    mine: Annotated[dict[str, Any] | None, Field(description="conflict, rejected: `data` as it was sent")] = None
    detail: Annotated[str | None, Field(description="conflict, rejected: a sentence for a person")] = None
    errors: Annotated[list[FieldProblem] | None, Field(description="rejected: each bad value")] = None
    overlaps: Annotated[list[UUID] | None, Field(description="conflict: the entries that overlap")] = None
    time_bill_id: Annotated[UUID | None, Field(description="conflict: the approved bill that locks the entry")] = None


class Versions:
    """What a client's own operations have made of the versions it knows: two changes to the same row, queued one after another,
    both name the version before the first. When the first was refused, the second was made to what there never was."""

    def __init__(self) -> None:
        self._now: dict[UUID, dict[int, int]] = {}
        self._refused: set[UUID] = set()

    def meant(self, row_id: UUID | None, base: int | None) -> int | None:
        return base if row_id is None or base is None else self._now.get(row_id, {}).get(base, base)

    def on_refused(self, asked: Asked) -> bool:
        """Whether it builds on a change that was refused. A timer's stop says the whole of it, and builds on nothing."""
        return asked.row_id in self._refused and asked.base is not None and asked.kind != "timer.stop"

    def note(self, row_id: UUID | None, base: int | None, answer: dict[str, Any]) -> None:
        """Remembers an applied change; whoever has meant the version before it means the new one from now on."""
        if answer["outcome"] != "applied" and row_id is not None:
            self._refused.add(row_id)
        version = (answer.get("current") or {}).get("version")
        if answer["outcome"] != "applied" or row_id is None or base is None or version is None:
            return
        known, meant = self._now.setdefault(row_id, {}), self.meant(row_id, base)
        known[base] = version
        for earlier, now in known.items():
            if now == meant:
                known[earlier] = version


async def apply(conn: Connection, operations: list[Operation], *, by: User, firm: Firm) -> list[dict[str, Any]]:
    """Each operation's result as it is answered, in their order; each is committed before the next begins."""
    results, versions = [], Versions()
    for operation in operations:
        asked = Asked(operation.kind, operation.data, operation.base_version)
        asked = replace(asked, base=versions.meant(asked.row_id, asked.base), on_refused=versions.on_refused(asked))
        async with conn.transaction():
            answer = await _once(conn, operation, asked, by=by, firm=firm)
        versions.note(asked.row_id, operation.base_version, answer)
        mine = {} if answer["outcome"] == "applied" else {"mine": operation.data}
        results.append({"opId": str(operation.op_id), **answer, **mine})
    return results


async def _once(conn: Connection, operation: Operation, asked: Asked, *, by: User, firm: Firm) -> dict[str, Any]:
    """The operation's answer: of its effect, or of the one that it had before."""
    cursor = await conn.execute(
        "INSERT INTO sync_operations (user_id, op_id, fingerprint) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (by.id, operation.op_id, operation.fingerprint()),
    )
    if not cursor.rowcount:
        return await _before(conn, operation, by=by)
    answer = await _attempt(conn, asked, by=by, firm=firm)
    await conn.execute(
        "UPDATE sync_operations SET answer = %s WHERE user_id = %s AND op_id = %s", (Json(answer), by.id, operation.op_id)
    )
    return answer


async def _before(conn: Connection, operation: Operation, *, by: User) -> dict[str, Any]:
    cursor = await conn.execute(
        "SELECT fingerprint, answer FROM sync_operations WHERE user_id = %s AND op_id = %s", (by.id, operation.op_id)
    )
    row = await cursor.fetchone()
    if row is None or row[0] != operation.fingerprint():
        return _rejected("Another operation had this opId; take a new one.", [FieldError("opId", "This one was used before.")])
    answer: dict[str, Any] = row[1]
    return answer


async def _attempt(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> dict[str, Any]:
    """What became of it. What is refused leaves nothing behind; what fails only for now (a lock, a lost connection) raises."""
    kind = KINDS.get(asked.kind)
    if kind is None:
        return _rejected(
            f"There is no such kind; there are {', '.join(KINDS)}.", [FieldError("kind", "There is no such kind.")]
        )
    try:
        if asked.on_refused:
            raise Conflict("An earlier change to it was not made, and this one builds on that; decide on both.")
        async with conn.transaction():
            current = await kind.do(conn, asked, by=by, firm=firm)
            return {"outcome": "applied", "current": current.model_dump(mode="json")}
    except Conflict as refusal:
        facts = {"current": await kind.current(conn, asked), **refusal.facts}
        return {"outcome": "conflict", "detail": refusal.detail, **facts}
    except UniqueViolation:  # at the same moment, by somebody else
        return {"outcome": "conflict", "detail": "Another row has this id; take a new one.", "current": None}
    except NotFound as refusal:
        return await kind.missed(conn, asked, by=by) or _rejected(refusal.detail)
    except Forbidden as refusal:
        return _rejected(refusal.detail)
    except Invalid as refusal:
        return _rejected(refusal.detail, refusal.errors)
    except ValidationError as error:
        return _rejected("The operation has a value that can't be used.", _faults(error))
    except psycopg.DataError:
        return _rejected("The operation has a value that can't be stored.")


def _rejected(detail: str, errors: list[FieldError] | None = None) -> dict[str, Any]:
    found = [{"path": error.path, "message": error.message} for error in errors or []]
    return {"outcome": "rejected", "detail": detail} | ({"errors": found} if found else {})


def _faults(error: ValidationError) -> list[FieldError]:
    return [
        FieldError(".".join(map(str, fault["loc"])), in_our_words(fault["msg"]))
        for fault in error.errors(include_input=False, include_context=False, include_url=False)[:50]
    ]


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets what was asked for more than 90 days ago, some at a time."""
    await conn.execute(
        """
        DELETE FROM sync_operations WHERE (user_id, op_id) IN (
            SELECT user_id, op_id FROM sync_operations WHERE at < clock_timestamp() - make_interval(days => %s)
            ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (KEPT_DAYS, rows),
    )
