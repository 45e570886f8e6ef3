"""Recompute jobs: they give a bill to entries without one, and correct the sums of open bills that differ from their entries.

A job goes through its scope in chunks, one message each (schemas/hours/recompute/chunks.py), while stops, changes, approvals
and other jobs continue. Approved bills are never changed. A dry run does the same steps, and only records what would change.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Flag, Row, Sql, json_object
from schemas.errors import Invalid, NotFound
from schemas.hours.firm_days import check_days
from schemas.hours.time_bills import BillScope, scope_condition
from schemas.messages import Recompute
from schemas.outbox import outbox
from schemas.postgres.connection import Connection, one_json


class RecomputeScope(BillScope):
    """Which days, customer and user; everything by default. Dates are inclusive."""

    dry_run: Annotated[Flag, Field(description="change nothing; find out what would change")] = False


class RecomputeChange(Row):
    """What a job changed about one bill, or in a dry run would change."""

    time_bill_id: Annotated[
        UUID | None, Field(description="null in a dry run for a bill that would be created"), Sql("{t}.bill_id")
    ]
    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: date
    seconds_before: Annotated[int | None, Field(description="null: there was no such bill")]
    seconds_after: int
    entries_added: Annotated[int, Field(description="entries that had no bill, and are now on this one")]
    removed: Annotated[bool, Field(description="no entry is on the bill any more, so it is deleted")]


class RecomputeTotals(Row):
    """What a job changed in all, or in a dry run would change."""

    time_bills_made: int
    time_bills_corrected: Annotated[int, Field(description="bills that existed, and now have another sum")]
    time_bills_removed: Annotated[int, Field(description="bills that no entry was on any more")]
    entries_added: Annotated[int, Field(description="entries that had no bill, and now have one")]
    seconds: Annotated[int, Field(description="the change of the sum of all bills; may be negative")]


class RecomputeJob(Row):
    """A recompute job and its progress."""

    id: UUID
    state: Annotated[
        Literal["queued", "running", "done", "failed"],
        Field(description="failed: its message is a dead letter; replay that to continue the job"),
        Sql("{t}.state"),
    ]
    dry_run: bool
    start_date: date | None
    end_date: date | None
    customer_id: UUID | None
    user_id: UUID | None
    done: Annotated[
        int,
        Field(description="of `total`: entries without a bill and open bills that have been processed"),
        Sql("least({t}.done, {t}.total)"),
    ]
    total: Annotated[int | None, Field(description="null: not started yet")]
    changed: Annotated[RecomputeTotals, Sql("{t}.changed")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RecomputeReport(RecomputeJob):
    """A job with a page of its changes."""

    changes: Annotated[list[RecomputeChange], Sql("{t}.changes")]
    next_cursor: Annotated[
        str | None, Field(description="Send it as `cursor` for more changes; null when there are none"), Sql("{t}.next_cursor")
    ]


async def start_job(conn: Connection, scope: RecomputeScope, *, by: UUID | None) -> UUID:
    """Enqueues the job's first chunk, and returns the job's id. Raises Invalid for a range of days that ends before it
    starts."""
    check_days(scope.start_date, scope.end_date)
    job_id: UUID = await conn.value(
        """
        INSERT INTO recompute_jobs (start_date, end_date, customer_id, user_id, dry_run, created_by)
        VALUES (%(start_date)s, %(end_date)s, %(customer_id)s, %(user_id)s, %(dry_run)s, %(by)s) RETURNING id
        """,
        scope.model_dump() | {"by": by},
    )
    await queue_next_chunk(conn, Recompute(job_id=job_id), by=by)
    return job_id


async def get_job(conn: Connection, job_id: UUID, *, limit: int = 200, after: str | None = None) -> bytes:
    """The job as JSON, with up to `limit` changes after that cursor. Raises NotFound for an unknown job, Invalid for a cursor
    that is not from an earlier answer."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid(
            "cursor", "This cursor is not from an earlier page of this job; send its nextCursor, or none for the first page."
        )
    found = await one_json(
        conn,
        f"""
        SELECT {json_object(RecomputeReport, "j")} FROM (
            SELECT job.*, CASE WHEN job.finished_at IS NOT NULL THEN 'done' WHEN m.state IN ('dead', 'discarded') THEN 'failed'
                               WHEN job.total IS NULL THEN 'queued' ELSE 'running' END AS state,
                   all_changes.changed, page.changes, page.next_cursor
            FROM recompute_jobs job LEFT JOIN messages m ON m.id = job.message_id
            CROSS JOIN LATERAL (
                SELECT json_build_object(
                    'timeBillsMade', count(*) FILTER (WHERE seconds_before IS NULL),
                    'timeBillsCorrected', count(*) FILTER (WHERE seconds_before <> seconds_after AND NOT removed),
                    'timeBillsRemoved', count(*) FILTER (WHERE removed),
                    'entriesAdded', coalesce(sum(entries_added), 0),
                    'seconds', coalesce(sum(seconds_after - coalesce(seconds_before, 0)), 0)) AS changed
                FROM recompute_changes WHERE job_id = job.id) all_changes
            CROSS JOIN LATERAL (
                SELECT coalesce(json_agg({json_object(RecomputeChange, "c")} ORDER BY c.n) FILTER (WHERE place <= %(limit)s),
                                '[]') AS changes,
                       CASE WHEN count(*) > %(limit)s THEN max(c.n) FILTER (WHERE place <= %(limit)s) END::text AS next_cursor
                FROM (SELECT *, row_number() OVER (ORDER BY n) AS place FROM recompute_changes
                      WHERE job_id = job.id AND n > %(after)s ORDER BY n LIMIT %(limit)s + 1) c) page
            WHERE job.id = %(job)s) j
        """,
        {"job": job_id, "limit": limit, "after": int(after or 0)},
    )
    if found is None:
        raise NotFound("There is no such job; jobs are deleted a month after they end.")
    return found


async def queue_next_chunk(conn: Connection, message: Recompute, *, by: UUID | None = None) -> None:
    """Enqueues a chunk. The job's state is derived from this message from now on."""
    message_id = await outbox.enqueue(conn, message, created_by=by)
    await conn.execute("UPDATE recompute_jobs SET message_id = %s WHERE id = %s", (message_id, message.job_id))


OPEN_BILL = "b.status <> 'approved' AND b.deleted_at IS NULL"


@dataclass(frozen=True)
class RunningJob:
    """A locked job; `parameters` are its scope and its id as `job`, to be bound."""

    id: UUID
    dry_run: bool
    parameters: dict[str, Any]

    def scope(self, alias: str) -> str:
        """The condition on rows of `alias` that have a date, a customer and a user."""
        return scope_condition(alias, self.parameters)


async def lock_job(conn: Connection, job_id: UUID) -> RunningJob | None:
    """Locks the job, and at its first chunk counts its total. None when it has finished, or was deleted after that."""
    row = await conn.maybe(
        """
        SELECT start_date, end_date, customer_id, user_id, dry_run, total FROM recompute_jobs
        WHERE id = %s AND finished_at IS NULL FOR UPDATE
        """,
        (job_id,),
    )
    if row is None:
        return None
    start_date, end_date, customer_id, user_id, dry_run, total = row
    scope = {"start_date": start_date, "end_date": end_date, "customer_id": customer_id, "user_id": user_id}
    job = RunningJob(job_id, dry_run, scope | {"job": job_id})
    if total is None:
        total = await conn.value(  # a statement of its own: Postgres reads in parallel only in one that does not write
            f"""
            SELECT (SELECT count(*) FROM time_entries e WHERE e.bill_id IS NULL AND e.deleted_at IS NULL AND {job.scope("e")})
                + (SELECT count(*) FROM time_bills b WHERE {OPEN_BILL} AND {job.scope("b")})
            """,
            job.parameters,
        )
        query = "UPDATE recompute_jobs SET started_at = clock_timestamp(), total = %s WHERE id = %s"
        await conn.execute(query, (total, job_id))
    return job


async def record_changes(conn: Connection, job: RunningJob, changed: list[tuple[UUID, int | None, int]]) -> None:
    """Records changes of bills: the bill's id, its seconds before (None: it was created), the number of entries added."""
    columns = [list(column) for column in zip(*changed, strict=True)] if changed else [[], [], []]
    await conn.execute(
        """
        INSERT INTO recompute_changes AS c
            (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added, removed)
        SELECT %s, b.id, b.user_id, b.customer_id, b.pillar_id, b.date, changed.before, b.seconds, changed.added,
               b.deleted_at IS NOT NULL
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS changed (id, before, added, place)
        JOIN time_bills b USING (id) ORDER BY changed.place
        ON CONFLICT (job_id, bill_id) DO UPDATE  -- a further chunk of a long day, or a concurrent change of the bill
        SET seconds_after = excluded.seconds_after, entries_added = c.entries_added + excluded.entries_added,
            removed = excluded.removed
        """,
        (job.id, *columns),
    )
