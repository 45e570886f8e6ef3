"""`./stint recompute`: starts the job of `POST /api/time-bills/recompute` from a terminal and shows its progress to the end."""

import argparse
import asyncio
import json
import sys
import time
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from ops.command_line.tables import table
from ops.command_line.terminal import counted
from ops.errors import CommandError
from ops.progress import Update, progress
from schemas import wording
from schemas.errors import StintError
from schemas.hours.recompute import jobs
from schemas.hours.recompute.jobs import RecomputeScope
from schemas.postgres.connection import Connection, connect
from schemas.settings import settings

POLL_SECONDS = 0.2
NO_WORKER_SECONDS = 10  # after these it prints that no worker has taken the job
MAX_SHOWN = 20  # changes in the table

Json = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Prints what changed, or with `--dry-run` what would change. With `--json` it prints the whole job with all changes."""
    scope = {
        "startDate": args.start_date,
        "endDate": args.end_date,
        "customerId": _id("--customer", args.customer),
        "userId": _id("--user", args.user),
        "dryRun": args.dry_run,
    }
    try:
        job = asyncio.run(_follow(RecomputeScope.model_validate(scope)))
    except ValidationError as error:
        raise CommandError(wording.problems(RecomputeScope, error)[0].message) from None
    except StintError as error:
        raise CommandError(error.detail) from error
    if args.json:
        print(json.dumps(job, indent=2))
    else:
        _show(job)
    return 0


def _id(option: str, text: str | None) -> UUID | None:
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        raise CommandError(f"{option}: {text} is not an id.") from None


async def _follow(scope: RecomputeScope) -> Json:
    async with await connect(settings()) as conn:
        async with conn.transaction():
            job_id = await jobs.start_job(conn, scope, by=None)
        try:
            with progress("recompute") as update:
                await _wait_for_end(conn, job_id, update)
        except (KeyboardInterrupt, asyncio.CancelledError):
            print(f"The job continues: GET /api/time-bills/recompute/{job_id} shows its state.", file=sys.stderr)
            raise
        return await _get_all(conn, job_id)


async def _wait_for_end(conn: Connection, job_id: UUID, update: Update) -> None:
    started, warned = time.monotonic(), False
    while True:
        job: Json = json.loads(await jobs.get_job(conn, job_id, limit=1))
        match job["state"]:
            case "done":
                update(job["done"], job["total"])
                return
            case "failed":
                raise CommandError(
                    f"The job {job_id} stopped: its message is a dead letter. Fix the cause and replay it (./stint dead): the "
                    "job then continues."
                )
            case "queued":
                if not warned and time.monotonic() - started > NO_WORKER_SECONDS:
                    print("No worker has taken the job yet: ./stint up runs workers.", file=sys.stderr)
                    warned = True
            case _:
                update(job["done"], job["total"])
        await asyncio.sleep(POLL_SECONDS)


async def _get_all(conn: Connection, job_id: UUID) -> Json:
    """The job with every page of its changes."""
    job: Json = json.loads(await jobs.get_job(conn, job_id, limit=1000))
    while job["nextCursor"] is not None:
        page = json.loads(await jobs.get_job(conn, job_id, limit=1000, after=job["nextCursor"]))
        job["changes"] += page["changes"]
        job["nextCursor"] = page["nextCursor"]
    return job


def _show(job: Json) -> None:
    changed, would = job["changed"], "would be " if job["dryRun"] else ""
    if job["changes"]:
        rows = []
        for change in job["changes"][:MAX_SHOWN]:
            before = change["secondsBefore"]
            ids = (change[name][:8] for name in ("userId", "customerId", "pillarId"))
            seconds = "none" if before is None else f"{before:,}"
            rows.append((change["date"], *ids, seconds, f"{change['secondsAfter']:,}", f"{change['entriesAdded']:,}"))
        print(table(("day", "user", "customer", "pillar", "seconds before", "after", "entries added"), rows), end="\n\n")
        if len(job["changes"]) > MAX_SHOWN:
            print(f"… and {len(job['changes']) - MAX_SHOWN:,} more; --json shows all of them.")
    print(
        f"{job['done']:,} checked: {counted(changed['timeBillsMade'], 'time bill')} {would}created, "
        f"{changed['timeBillsCorrected']:,} {would}corrected, {changed['timeBillsRemoved']:,} without entries {would}removed, "
        f"{counted(changed['entriesAdded'], 'entry', 'entries')} {would}put on a bill; "
        f"{changed['seconds']:+,} seconds in total."
    )
