"""Recompute: gives a bill to entries that have none, and corrects the sums of open bills that differ from their entries.

A job goes through all that is in its scope chunk by chunk (schemas/recompute_chunks.py): stops, edits, approvals and another
recompute go on beside it. Approved bills are never touched. A dry run takes the same way, writes down what would change, and
changes nothing.
"""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas import ledger
from schemas.base import Body, Day, Flag, Row, Sql, json_object
from schemas.database import Connection, one_json
from schemas.errors import Invalid, NotFound
from schemas.messages import Recompute


class RecomputeScope(Body):
    """Which days, customer and user; everything by default. Dates are inclusive."""

    start_date: Annotated[Day | None, Field(examples=["2026-01-01"])] = None
    end_date: Annotated[Day | None, Field(examples=["2026-12-31"])] = None
    customer_id: UUID | None = None
    user_id: UUID | None = None
    dry_run: Annotated[Flag, Field(description="change nothing; find out what would change")] = False


class RecomputeChange(Row):
    """What a job changed about one bill, or in a dry run would change."""

    time_bill_id: Annotated[
        UUID | None, Field(description="null in a dry run for a bill that would be made"), Sql("{t}.bill_id")
    ]
    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: date
    seconds_before: Annotated[int | None, Field(description="null: there was no such bill")]
    seconds_after: int
    entries_added: Annotated[int, Field(description="entries that had no bill and are on this one now")]


class RecomputeTotals(Row):
    """What a job changed in all, or in a dry run would change."""

    time_bills_made: int
    time_bills_corrected: Annotated[int, Field(description="bills that were there and have another sum now")]
    entries_added: Annotated[int, Field(description="entries that had no bill and are on one now")]
    seconds: Annotated[int, Field(description="by how much all bills together grew; below 0: shrank")]


class RecomputeJob(Row):
    """A recompute job and how far it is."""

    id: UUID
    state: Annotated[
        Literal["queued", "running", "done", "failed"],
        Field(description="failed: its message is a dead letter; replaying that lets the job go on"),
        Sql("{t}.state"),
    ]
    dry_run: bool
    start_date: date | None
    end_date: date | None
    customer_id: UUID | None
    user_id: UUID | None
    done: Annotated[
        int,
        Field(description="of `total`: entries without a bill and open bills gone through"),
        Sql("least({t}.done, {t}.total)"),
    ]
    total: Annotated[int | None, Field(description="null: it has not begun")]
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


async def begin(conn: Connection, scope: RecomputeScope, *, by: UUID | None) -> UUID:
    """Promises the job and returns its id. Raises Invalid for days out of order."""
    if scope.start_date is not None and scope.end_date is not None and scope.end_date < scope.start_date:
        raise Invalid("endDate", "endDate lies before startDate.")
    cursor = await conn.execute(
        """
        INSERT INTO recompute_jobs (start_date, end_date, customer_id, user_id, dry_run, created_by)
        VALUES (%(start_date)s, %(end_date)s, %(customer_id)s, %(user_id)s, %(dry_run)s, %(by)s) RETURNING id
        """,
        scope.model_dump() | {"by": by},
    )
    row = await cursor.fetchone()
    assert row is not None
    job_id: UUID = row[0]
    await put_chunk(conn, Recompute(job_id=job_id), by=by)
    return job_id


async def read(conn: Connection, job_id: UUID, *, limit: int = 200, after: str | None = None) -> bytes:
    """The job as JSON, with changes from that cursor on. Raises NotFound for an unknown job, Invalid for a cursor of others."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid("cursor", "This is no cursor of ours; send the nextCursor of an earlier answer, or none to begin anew.")
    found = await one_json(
        conn,
        f"""
        SELECT {json_object(RecomputeReport, "j")} FROM (
            SELECT job.*, CASE WHEN job.finished_at IS NOT NULL THEN 'done' WHEN m.state IN ('dead', 'discarded') THEN 'failed'
                               WHEN job.total IS NULL THEN 'queued' ELSE 'running' END AS state,
                   all_of_them.changed, page.changes, page.next_cursor
            FROM recompute_jobs job LEFT JOIN messages m ON m.id = job.message_id
            CROSS JOIN LATERAL (
                SELECT json_build_object(
                    'timeBillsMade', count(*) FILTER (WHERE seconds_before IS NULL),
                    'timeBillsCorrected', count(*) FILTER (WHERE seconds_before <> seconds_after),
                    'entriesAdded', coalesce(sum(entries_added), 0),
                    'seconds', coalesce(sum(seconds_after - coalesce(seconds_before, 0)), 0)) AS changed
                FROM recompute_changes WHERE job_id = job.id) all_of_them
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
        raise NotFound("There is no such job; those that ended more than a month ago are forgotten.")
    return found


async def put_chunk(conn: Connection, message: Recompute, *, by: UUID | None = None) -> None:
    """Promises a chunk; the job's state is that of this message from now on."""
    message_id = await ledger.put(conn, message, created_by=by)
    await conn.execute("UPDATE recompute_jobs SET message_id = %s WHERE id = %s", (message_id, message.job_id))
