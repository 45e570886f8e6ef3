"""`./stint xero check`: bills against time entries in Xero, as GET /api/xero/reconciliation compares them; the exit code says
whether all agree."""

import argparse
import asyncio
import json
import sys
import time
from datetime import date
from typing import TYPE_CHECKING, Any, get_args

from pydantic.alias_generators import to_camel

from ops.command_line.tables import Wrong, table
from ops.command_line.terminal import escape_control
from ops.errors import CommandError
from ops.progress import progress
from schemas.errors import StintError
from schemas.postgres.connection import Connection, connect
from schemas.postgres.listing import MAX_LIMIT, Page
from schemas.reports.days import days
from schemas.settings import settings
from schemas.xero.reconciliation import comparison
from schemas.xero.reconciliation.models import Result
from schemas.xero.reconciliation.table import as_csv

if TYPE_CHECKING:
    from schemas.xero.reconciliation.readings import Progress

NOT_ALL_AGREE = 3  # the exit code
POLL_SECONDS = 1.0
NO_WORKER_SECONDS = 60  # after these without progress it prints what may be missing
MAX_SHOWN = 20  # bills and entries in the table

Json = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Prints the comparison. Returns 0 if all agree, else 3. With `--fresh` every project is read in Xero first."""
    try:
        compared = asyncio.run(_compare(args.start_date, args.end_date, fresh=args.fresh))
    except StintError as error:
        raise CommandError(error.detail) from error
    if args.json:
        print(json.dumps(compared, indent=2))
    elif args.csv:
        sys.stdout.write(as_csv(compared["items"]))
    else:
        _show(compared)
    return 0 if compared["allAgree"] else NOT_ALL_AGREE


async def _compare(start: date | None, end: date | None, *, fresh: bool) -> Json:
    async with await connect(settings()) as conn:
        start, end = await days(conn, start, end, zone=settings().stint_timezone)
        if fresh:
            await _read_again(conn)
        compared: Json = {}
        page = Page(MAX_LIMIT)
        while True:
            found = json.loads(await comparison.compare(conn, start, end, page, settings()))
            compared = found | {"items": compared.get("items", []) + found["items"]}
            if found["nextCursor"] is None:
                return compared
            page = Page(MAX_LIMIT, found["nextCursor"])


async def _read_again(conn: Connection) -> None:
    """Waits until every project was read in Xero since now, and every entry that was found otherwise."""
    from schemas.xero.reconciliation import readings  # it imports all that reads in Xero

    async with conn.transaction():
        requested_at = await readings.request(conn)
    with progress("reading projects in Xero") as update:
        moved_at, before = time.monotonic(), (-1, -1)
        while True:
            now = await readings.progress(conn, requested_at)
            what = f"reading entries in Xero: {now.entries:,} left" if now.read == now.projects else "reading projects in Xero"
            update(now.read, now.projects, what=what)
            if now.is_done:
                break
            if (now.read, now.entries) != before:
                moved_at, before = time.monotonic(), (now.read, now.entries)
            elif time.monotonic() - moved_at > NO_WORKER_SECONDS:
                print(_why_slow(now), file=sys.stderr)
                moved_at = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
    if now.failed:
        raise CommandError(
            f"Xero refused to let Stint read {now.failed:,} of {now.projects:,} projects, so they cannot be compared: "
            "GET /api/xero/reconciliation says which and why. Without --fresh what was read before is compared."
        )


def _why_slow(now: "Progress") -> str:
    if now.waits_until is not None:
        return f"Xero's rate limit is reached: no call is made before {now.waits_until:%Y-%m-%d %H:%M} UTC."
    return "No project was read for a minute. A large one takes 5 seconds for 500 entries; ./stint doctor says what is wrong."


def _show(compared: Json) -> None:
    wrong = [item for item in compared["items"] if item["result"] not in ("agrees", "accepted")]
    if wrong:
        rows = []
        for item in wrong[:MAX_SHOWN]:
            numbers = ("" if item[name] is None else f"{item[name]:,}" for name in ("minutes", "xeroMinutes"))
            names = (escape_control(item[name] or "") for name in ("userName", "customerName"))
            rows.append((item["date"], *numbers, Wrong(item["result"]), *names, item["cause"], item["billId"]))
        print(table(("day", "minutes", "in Xero", "result", "user", "customer", "cause", "bill"), rows), end="\n\n")
        if len(wrong) > MAX_SHOWN:
            print(f"… and {len(wrong) - MAX_SHOWN:,} more; --json and --csv show all of them.")
    for name in get_args(Result):
        total = compared["totals"][to_camel(name)]
        print(f"{name:<10}{total['count']:>8,}   {total['minutes']:>10,} min billed   {total['xeroMinutes']:>10,} min in Xero")
    readings_at = [project["readAt"] for project in compared["projects"]]
    if readings_at:
        oldest = readings_at[0]
        when = f"all were read since {oldest}" if oldest else "some were never read"
        print(f"projects in Xero: {len(readings_at):,}; {when}")
    print("All agree." if compared["allAgree"] else "Not all agree: docs/xero.md, Comparing bills with Xero, says what to do.")
