"""`./stint recompute`: the job that `POST /api/time-bills/recompute` starts, begun in a terminal and followed to its end."""

import argparse
import asyncio
import json
import sys
import time
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ops.errors import CommandError
from ops.progress import At, progress
from schemas import recompute
from schemas.database import Connection, connect
from schemas.errors import StintError
from schemas.recompute import RecomputeScope
from schemas.settings import settings

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 10  # until it says that no worker has taken the job
SHOWN = 20  # changes, in the table

Json = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Prints what changed, or with `--dry-run` what would; with `--json` the whole job, every change included."""
    wanted = {
        "startDate": args.start_date,
        "endDate": args.end_date,
        "customerId": _id("--customer", args.customer),
        "userId": _id("--user", args.user),
        "dryRun": args.dry_run,
    }
    try:
        job = asyncio.run(_follow(RecomputeScope.model_validate(wanted)))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise CommandError(f"{fault['loc'][0]}: {fault['msg']}.") from None
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
        raise CommandError(f"{option}: {text} is no id.") from None


async def _follow(scope: RecomputeScope) -> Json:
    async with await connect(settings()) as conn:
        async with conn.transaction():
            job_id = await recompute.begin(conn, scope, by=None)
        try:
            with progress("recompute") as at:
                await _until_it_ends(conn, job_id, at)
        except (KeyboardInterrupt, asyncio.CancelledError):
            print(f"The job goes on without you: GET /api/time-bills/recompute/{job_id} follows it.", file=sys.stderr)
            raise
        return await _all_of(conn, job_id)


async def _until_it_ends(conn: Connection, job_id: UUID, at: At) -> None:
    begun, said = time.monotonic(), False
    while True:
        job: Json = json.loads(await recompute.read(conn, job_id, limit=1))
        match job["state"]:
            case "done":
                at(job["done"], job["total"])
                return
            case "failed":
                raise CommandError(
                    f"The job {job_id} stopped: its message is a dead letter. Mend the cause and replay it: the job goes on."
                )
            case "queued":
                if not said and time.monotonic() - begun > PATIENCE_SECONDS:
                    print("No worker has taken the job yet: ./stint up runs them.", file=sys.stderr)
                    said = True
            case _:
                at(job["done"], job["total"])
        await asyncio.sleep(POLL_SECONDS)


async def _all_of(conn: Connection, job_id: UUID) -> Json:
    job: Json = json.loads(await recompute.read(conn, job_id, limit=1000))
    while job["nextCursor"] is not None:
        page = json.loads(await recompute.read(conn, job_id, limit=1000, after=job["nextCursor"]))
        job["changes"] += page["changes"]
        job["nextCursor"] = page["nextCursor"]
    return job


def _show(job: Json) -> None:
    changed, would = job["changed"], "would be " if job["dryRun"] else ""
    if job["changes"]:
        table = Table("day", "user", "customer", "pillar", "seconds before", "after", "entries added")
        for change in job["changes"][:SHOWN]:
            before = "none" if change["secondsBefore"] is None else change["secondsBefore"]
            ids = (change[name][:8] for name in ("userId", "customerId", "pillarId"))
            table.add_row(change["date"], *ids, str(before), str(change["secondsAfter"]), str(change["entriesAdded"]))
        Console().print(table)
        if len(job["changes"]) > SHOWN:
            print(f"… and {len(job['changes']) - SHOWN:,} more; --json shows all of them.")
    print(
        f"{job['done']:,} gone through: {changed['timeBillsMade']:,} time bills {would}made, "
        f"{changed['timeBillsCorrected']:,} {would}corrected, {changed['entriesAdded']:,} entries {would}given a bill; "
        f"{changed['seconds']:+,} seconds in all."
    )
