"""`./stint recompute` shows what a job has changed, or would change; a worker of the running Stint does it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.given import Given, Person
from tests.support.installation import Installation

Json = dict[str, Any]


@pytest.fixture
def with_wrong_sums(given: Given) -> Iterator[Person]:
    """A consultant with 22 bills of an hour, of which each has a wrong sum. The teardown corrects them, for the tests after a
    failure."""
    by = given.person()
    bills = given.many_bills(by, given.task(by), 22)
    given.stint.rows("UPDATE time_bills SET seconds = 1 WHERE id = ANY(%s) RETURNING 1", bills)
    yield by
    given.stint.rows("UPDATE time_bills SET seconds = 3600 WHERE id = ANY(%s) AND seconds = 1 RETURNING 1", bills)


def test_a_dry_run_prints_what_would_change_and_a_run_changes_it(with_wrong_sums: Person, stint: Installation) -> None:
    by = with_wrong_sums
    scope = ("--user", by.id, "--start-date", "2020-01-02")
    sums = "SELECT array_agg(DISTINCT seconds ORDER BY seconds) FROM time_bills WHERE user_id = %s"

    tried = stint.command("recompute", "--dry-run", *scope)

    assert tried.returncode == 0, tried.stderr
    assert "21 checked:" in tried.stdout and "21 would be corrected" in tried.stdout
    assert tried.stdout.count("2020-01-") == 20 and by.id[:8] in tried.stdout and "… and 1 more" in tried.stdout
    assert stint.value(sums, by.id) == [1]

    done = stint.command("recompute", "--json", *scope)

    assert done.returncode == 0, done.stderr
    job: Json = json.loads(done.stdout)
    assert (job["state"], job["changed"]["timeBillsCorrected"], len(job["changes"])) == ("done", 21, 21)
    assert stint.value(sums, by.id) == [1, 3600]
    stint.command("recompute", "--user", by.id)
    assert stint.value(sums, by.id) == [3600]


def test_an_invalid_scope_is_refused(stint: Installation) -> None:
    jobs = stint.value("SELECT count(*) FROM recompute_jobs")
    for words, error in (
        (("--customer", "acme"), "--customer: acme is not an id."),
        (("--user", "5"), "--user: 5 is not an id."),
        (("--start-date", "2026-02-02", "--end-date", "2026-02-01"), "endDate"),
    ):
        refused = stint.command("recompute", *words)
        assert refused.returncode == 1 and error.lower() in refused.stderr.lower(), (words, refused.stderr)
    assert stint.value("SELECT count(*) FROM recompute_jobs") == jobs
