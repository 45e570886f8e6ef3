"""`recompute`: all bills recalculated through the API and the workers, against the bare sum over all entries."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError

WRONG_PERCENT = 1
TIMEOUT_SECONDS = 300
POLL_SECONDS = 0.05
# Without the outer sum the planner would skip the inner ones; count(*) makes it compute every group.
SUM_ALL = """
SELECT count(*), sum(seconds) FROM (
    SELECT user_id, customer_id, pillar_id, date, sum(duration) AS seconds
    FROM time_entries WHERE deleted_at IS NULL GROUP BY 1, 2, 3, 4) AS summed
"""


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Opens every bill. About one in a hundred gets a wrong sum before each round, and each round must correct all of them."""
    stage.say("recompute: opening all bills")
    open_all_bills(stage)
    bills = stage.value("SELECT count(*) FROM time_bills WHERE deleted_at IS NULL")
    token = stage.admin_token()
    corrected: list[int] = []

    def ours() -> float:
        wrong = make_bills_wrong(stage)
        seconds = recompute(stage, token)
        check_corrected(stage)
        corrected.append(wrong)
        stage.drain()
        return seconds

    def baseline() -> float:
        started = time.perf_counter()
        stage.sql(SUM_ALL)
        return time.perf_counter() - started

    baseline()  # once without measuring, so that its data is in memory, as it is for ours
    figures = alternate(stage.say, "recompute", plan, {"Stint": ours, "GROUP BY": baseline})
    return [
        Line(
            "recompute",
            Side("POST /api/time-bills/recompute of everything, until the job is done", "s", figures["Stint"]),
            Side("SELECT …, sum(duration) FROM time_entries … GROUP BY 1, 2, 3, 4", "s", figures["GROUP BY"]),
            Target(1.5, at_least=False),
            {"entries": stage.entries, "bills": bills, "wrong_sums_corrected": corrected},
        )
    ]


def open_all_bills(stage: Stage) -> None:
    """Makes every bill pending, so that recompute checks all of them. Where there are several for the same user, customer,
    pillar and day (late time after an approval), their entries are moved to one of them first."""
    stage.sql(
        """
        CREATE TABLE bench_duplicates AS
        SELECT id, first_value(id) OVER (
            PARTITION BY user_id, customer_id, pillar_id, date ORDER BY status = 'approved', id) AS keeper
        FROM time_bills WHERE deleted_at IS NULL
        """
    )
    stage.sql(
        "UPDATE time_entries e SET bill_id = t.keeper FROM bench_duplicates t WHERE e.bill_id = t.id AND t.id <> t.keeper"
    )
    stage.sql(
        "UPDATE time_bills b SET status = 'pending', rejection_note = NULL, approved_by = NULL, approved_at = NULL,"
        " approved_seconds = NULL, deleted_at = now() FROM bench_duplicates t WHERE b.id = t.id AND t.id <> t.keeper"
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
    stage.sql("DROP TABLE bench_duplicates")
    stage.sql("CREATE TABLE bench_wrong (id uuid PRIMARY KEY, seconds bigint NOT NULL)")
    stage.sql("VACUUM (ANALYZE) time_bills, time_entries")
    stage.sql("CHECKPOINT")


def make_bills_wrong(stage: Stage) -> int:
    """Gives some bills a wrong sum by direct SQL, and returns how many."""
    stage.sql("TRUNCATE bench_wrong")
    stage.sql(
        """
        INSERT INTO bench_wrong SELECT id, seconds FROM time_bills WHERE deleted_at IS NULL
        ORDER BY random() LIMIT (SELECT greatest(1, count(*) * %s / 100) FROM time_bills)
        """,
        (WRONG_PERCENT,),
    )
    stage.sql("UPDATE time_bills b SET seconds = b.seconds + 3600 FROM bench_wrong s WHERE b.id = s.id")
    stage.sql(
        "VACUUM time_bills"
    )  # removes the dead rows of this UPDATE, which real errors would not leave on every third page
    return int(stage.value("SELECT count(*) FROM bench_wrong"))


def check_corrected(stage: Stage) -> None:
    """Raises CommandError when a bill is still wrong, because the measurement is then useless."""
    query = "SELECT count(*) FROM bench_wrong s JOIN time_bills b USING (id) WHERE b.seconds <> s.seconds"
    if wrong := stage.value(query):
        raise CommandError(f"The recompute job is done, but {wrong} bills still have a wrong sum.")


def recompute(stage: Stage, token: str) -> float:
    """Seconds from the request until the job is `done`."""
    connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
    started = time.perf_counter()
    job = _request(connection, "POST", "/api/time-bills/recompute", token, body="{}")
    while job["state"] != "done":
        seconds = time.perf_counter() - started
        if job["state"] == "failed" or seconds > TIMEOUT_SECONDS:
            raise CommandError(f"recompute is {job['state']} after {seconds:.0f} s: {job}")
        time.sleep(POLL_SECONDS)
        job = _request(connection, "GET", f"/api/time-bills/recompute/{job['id']}?limit=1", token)
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, token: str, body: str | None = None
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise CommandError(f"{method} {path} answered {answer.status}: {text[:300].decode(errors='replace')}")
    return dict(json.loads(text))


COMPARISON = Comparison("recompute", "all bills recalculated, against the bare sum over all entries", ("recompute",), measure)
