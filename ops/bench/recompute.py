"""`recompute`: all bills summed again through the API and the workers, against the bare sum over all entries."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError

WRONG_PERCENT = 1
PATIENCE_SECONDS = 300
POLL_SECONDS = 0.05
# The outer sum keeps the planner from leaving the inner ones out; counting fetches every group to the end.
SUM_ALL = """
SELECT count(*), sum(seconds) FROM (
    SELECT user_id, customer_id, pillar_id, date, sum(duration) AS seconds
    FROM time_entries WHERE deleted_at IS NULL GROUP BY 1, 2, 3, 4) AS summed
"""


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Every bill is open, and about one in a hundred is wrong before each round; each round must mend them all."""
    open_all_bills(stage)
    bills = stage.value("SELECT count(*) FROM time_bills WHERE deleted_at IS NULL")
    token = stage.admin_token()
    mended: list[int] = []

    def ours() -> float:
        spoiled = spoil(stage)
        seconds = recompute(stage, token)
        check_mended(stage)
        mended.append(spoiled)
        stage.drain()
        return seconds

    def floor() -> float:
        started = time.perf_counter()
        stage.sql(SUM_ALL)
        return time.perf_counter() - started

    floor()  # once unmeasured: what it reads is in memory then, as it is for ours
    our_figures, floor_figures = alternate(stage.say, "recompute", plan, ours, floor)
    return [
        Line(
            "recompute",
            Side("POST /api/time-bills/recompute of everything, until the job is done", "s", our_figures),
            Side("SELECT …, sum(duration) FROM time_entries … GROUP BY 1, 2, 3, 4", "s", floor_figures),
            Target(2, at_least=False),
            {"entries": stage.entries, "bills": bills, "wrong_sums_mended": mended},
        )
    ]


def open_all_bills(stage: Stage) -> None:
    """Makes every bill pending, so that recompute has to look at all of them. Where a key has several, since late time came
    after an approval, their entries go to one of them first."""
    stage.sql(
        """
        CREATE TABLE bench_twins AS
        SELECT id, first_value(id) OVER (
            PARTITION BY user_id, customer_id, pillar_id, date ORDER BY status = 'approved', id) AS keeper
        FROM time_bills WHERE deleted_at IS NULL
        """
    )
    stage.sql("UPDATE time_entries e SET bill_id = t.keeper FROM bench_twins t WHERE e.bill_id = t.id AND t.id <> t.keeper")
    stage.sql(
        "UPDATE time_bills b SET status = 'pending', rejection_note = NULL, approved_by = NULL, approved_at = NULL,"
        " approved_seconds = NULL, deleted_at = now() FROM bench_twins t WHERE b.id = t.id AND t.id <> t.keeper"
    )
    stage.sql(
        """
        UPDATE time_bills SET status = 'pending', rejection_note = NULL, stale = false, approved_by = NULL, approved_at = NULL,
            approved_seconds = NULL, xero_status = 'none', xero_time_entry_id = NULL
        WHERE status <> 'pending' AND deleted_at IS NULL
        """
    )
    stage.sql(
        """
        UPDATE time_bills b SET seconds = s.seconds, stale = false
        FROM (SELECT bill_id, sum(duration) AS seconds FROM time_entries WHERE deleted_at IS NULL GROUP BY 1) s
        WHERE b.id = s.bill_id AND (b.stale OR b.seconds <> s.seconds)
        """
    )
    stage.sql("DROP TABLE bench_twins")
    stage.sql("CREATE TABLE bench_spoiled (id uuid PRIMARY KEY, seconds bigint NOT NULL)")
    stage.sql("VACUUM (ANALYZE) time_bills, time_entries")
    stage.sql("CHECKPOINT")


def spoil(stage: Stage) -> int:
    """Gives some bills a wrong sum, behind everybody's back; returns how many."""
    stage.sql("TRUNCATE bench_spoiled")
    stage.sql(
        """
        INSERT INTO bench_spoiled SELECT id, seconds FROM time_bills WHERE deleted_at IS NULL
        ORDER BY random() LIMIT (SELECT greatest(1, count(*) * %s / 100) FROM time_bills)
        """,
        (WRONG_PERCENT,),
    )
    stage.sql("UPDATE time_bills b SET seconds = b.seconds + 3600 FROM bench_spoiled s WHERE b.id = s.id")
    stage.sql("VACUUM time_bills")  # the spoiling's traces, which no real mistake leaves on one page in three
    return int(stage.value("SELECT count(*) FROM bench_spoiled"))


def check_mended(stage: Stage) -> None:
    """Raises CommandError when one of them is still wrong: what was measured was no recompute then."""
    query = "SELECT count(*) FROM bench_spoiled s JOIN time_bills b USING (id) WHERE b.seconds <> s.seconds"
    if wrong := stage.value(query):
        raise CommandError(f"recompute says that it is done, and left {wrong} bills with a wrong sum.")


def recompute(stage: Stage, token: str) -> float:
    """Seconds from the request until the job says `done`."""
    connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
    started = time.perf_counter()
    job = _ask(connection, "POST", "/api/time-bills/recompute", token, body="{}")
    while job["state"] != "done":
        seconds = time.perf_counter() - started
        if job["state"] == "failed" or seconds > PATIENCE_SECONDS:
            raise CommandError(f"recompute is {job['state']} after {seconds:.0f} s: {job}")
        time.sleep(POLL_SECONDS)
        job = _ask(connection, "GET", f"/api/time-bills/recompute/{job['id']}?limit=1", token)
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def _ask(connection: http.client.HTTPConnection, method: str, path: str, token: str, body: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise CommandError(f"{method} {path} answered {answer.status}: {text[:300].decode(errors='replace')}")
    return dict(json.loads(text))


COMPARISON = Comparison("recompute", "all bills summed again, against the bare sum over all entries", measure)
