"""Which dead letters a list or an action is about, as conditions in SQL, and what an action would concern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Instant, Row
from schemas.errors import Conflict, Invalid
from schemas.postgres.connection import Connection
from schemas.postgres.listing import contains_pattern

MAX_IDS = 1000
_REPLAYS_LOCK = 7_474_614  # an advisory lock
DeadLetterState = Literal["dead", "discarded"]


class DeadLetterFilter(Body):
    """Selects dead letters that meet all conditions that are given."""

    actor: Annotated[str | None, Field(max_length=100, examples=["send_mail"])] = None
    queue: Annotated[str | None, Field(max_length=100)] = None
    group: Annotated[str | None, Field(alias="fingerprint", max_length=64, description="the fingerprint of a group")] = None
    since: Annotated[Instant | None, Field(description="died at this time or later")] = None
    until: Annotated[Instant | None, Field(description="died before this time")] = None
    q: Annotated[
        str | None, Field(min_length=1, max_length=200, description="text in the error or the body; upper and lower case match")
    ] = None


class Select(Body):
    """Which dead letters: exactly one of these."""

    ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_IDS)] = None
    group: Annotated[str | None, Field(max_length=64, description="the fingerprint of a group")] = None
    filter: DeadLetterFilter | None = None
    all: Annotated[Literal[True] | None, Field(description="all dead letters")] = None


class SelectShown(Select):
    """These ids, as a person has seen them: not what died at that time or later, which nobody has seen."""

    shown_at: Instant


class Preview(Row):
    """What an action would concern now. `at`: when, by the database's clock. `unrecognized`: of `count`, those that are no
    messages of Stint. `in_replays`: of the messages, those that a replay that runs will send anyway."""

    count: int
    unrecognized: int
    in_replays: int
    by_actor: dict[str, int]
    at: datetime


@dataclass(frozen=True)
class SqlCondition:
    """A condition on dead letters `m`, and its parameters."""

    text: str
    parameters: dict[str, Any]


def filter_sql(filters: DeadLetterFilter) -> SqlCondition:
    """The filter as SQL. The text in `q` is matched literally."""
    conditions = {
        "actor": "m.actor = %(actor)s",
        "queue": "m.queue = %(queue)s",
        "group": "m.fingerprint = %(group)s",
        "since": "m.died_at >= %(since)s",
        "until": "m.died_at < %(until)s",
        "q": "(m.error ILIKE %(q)s OR m.body::text ILIKE %(q)s)",
    }
    given = {name: value for name, value in filters.model_dump().items() if value is not None}
    text = " AND ".join(conditions[name] for name in given) or "true"
    if "q" in given:
        given["q"] = contains_pattern(str(given["q"]))
    return SqlCondition(text, given)


def selection_sql(select: Select) -> SqlCondition:
    """The selection as a condition on dead letters `m`. Raises Invalid unless exactly one field is given."""
    given = [name for name in ("ids", "group", "filter", "all") if getattr(select, name) is not None]
    if len(given) != 1:
        raise Invalid("select", "Send exactly one of ids, group, filter and all.")
    if select.ids is not None:
        if isinstance(select, SelectShown):
            return SqlCondition("m.id = ANY(%(ids)s) AND m.died_at < %(shown)s", {"ids": select.ids, "shown": select.shown_at})
        return SqlCondition("m.id = ANY(%(ids)s)", {"ids": select.ids})
    if select.group is not None:
        return SqlCondition("m.fingerprint = %(group)s", {"group": select.group})
    return filter_sql(select.filter or DeadLetterFilter())


def state_sql(state: DeadLetterState) -> str:
    """The state as a condition on dead letters `m`. A literal, because a cached plan for a bound parameter could not use the
    partial index on dead messages."""
    return {"dead": "m.state = 'dead'", "discarded": "m.state = 'discarded'"}[state]


async def preview(
    conn: Connection, select: Select, state: DeadLetterState = "dead", *, with_unrecognized: bool = False
) -> Preview:
    """What an action on this selection would concern. Nothing is changed. `with_unrecognized`: also unrecognized messages."""
    condition = selection_sql(select)
    where = f"{state_sql(state)} AND {condition.text}"
    unrecognized_count = f"(SELECT count(*) FROM listed_unrecognized_messages m WHERE {where})" if with_unrecognized else "0"
    at, by_actor, unrecognized, in_replays = await conn.one(
        f"""
        SELECT now(),
               (SELECT coalesce(json_object_agg(actor, count ORDER BY actor), '{{}}')
                FROM (SELECT m.actor, count(*) AS count FROM messages m WHERE {where} GROUP BY m.actor) found),
               {unrecognized_count},
               (SELECT count(DISTINCT m.id) FROM replays r
                JOIN replay_messages o ON o.replay_id = r.id AND o.sent_at IS NULL AND o.outcome IS NULL
                JOIN messages m ON m.id = o.message_id
                WHERE r.state = 'running' AND m.state = 'dead' AND {condition.text})
        """,
        condition.parameters,
    )
    count = sum(by_actor.values()) + unrecognized
    return Preview(count=count, unrecognized=unrecognized, in_replays=in_replays, by_actor=by_actor, at=at)


async def lock_replays(conn: Connection) -> None:
    """Until the transaction ends, no other one starts a replay. Statements after this see all that were started before."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_REPLAYS_LOCK,))


async def check_in_replays(conn: Connection, select: Select, shown: int) -> None:
    """Raises Conflict if replays that run will send more of these than a person was shown, and lets no replay start until the
    transaction ends."""
    await lock_replays(conn)
    now = (await preview(conn, select)).in_replays
    if now > shown:
        raise Conflict(
            f"Somebody else has started a replay since this was shown: it will send {now:,} of these. Nothing was done; look"
            " at that replay first."
        )


def check_count(shown: int, now: int) -> None:
    """Raises Conflict if an action concerns another number than a person was shown: somebody else has acted meanwhile."""
    if shown != now:
        raise Conflict(
            f"This has changed since it was shown: then there were {shown:,}, now there are {now:,}, without those that have"
            " failed again since. Somebody else has replayed, discarded or restored some. Nothing was done; look again."
        )
