"""The first page: who works on what, hours and what is missing, what needs a decision, what is wrong; and its live events."""

import time
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx2
import pytest

from schemas.reports.present import Day, RunningTimer
from tests.console.client import Browser, Browsers
from tests.support.given import Given
from tests.support.installation import Installation

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """The page shows everybody."""
    return stint_apart


def last_week() -> date:
    """The Monday of the week before this one."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=today.weekday() + 7)


def rows_of(browser: Browser, caption: str, path: str = "/console") -> dict[str, list[str]]:
    """The rows of a table by the text of their header."""
    for table in browser.get(path).html.all("table"):
        if table.one("caption").text == caption:
            body = table.one("tbody")
            return {row.one("th").text: [cell.text for cell in row.all("td")] for row in body.all("tr")}
    return {}


def test_the_page_shows_who_works_on_what_and_which_timer_looks_forgotten(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    by, other = given.person(), given.person()
    customer = given.customer(by)
    task = given.task(by, customer, title="Move <b>the</b> mail")
    by.post(f"/api/tasks/{task['id']}/start")
    long_ago = (datetime.now(UTC) - timedelta(hours=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    other.put("/api/active-timers/me", {"taskId": task["id"], "startTime": long_ago}, status=201)

    browser = browsers.of(by)
    timers = rows_of(browser, "Running timers")
    own = timers[by.email.partition("@")[0]]
    assert own[:2] == [customer["name"], "Move <b>the</b> mail"] and own[3] == "0:00"
    assert "Looks forgotten" in (theirs := timers[other.email.partition("@")[0]])[1] and theirs[3] == "9:00"
    part = browser.get("/console/now/timers")
    assert "<html" not in part.answer.text and "Looks forgotten" in part.answer.text
    stint.rows("DELETE FROM timers RETURNING 1")
    assert "No timer runs just now" in browser.get("/console").text


def test_the_hours_of_a_week_are_shown_beside_what_was_planned(given: Given, browsers: Browsers) -> None:
    by, monday = given.person(), last_week()
    task = given.task(by)
    given.logged(by, task, start=f"{monday}T09:00:00Z", minutes=8 * 60)
    given.logged(by, task, start=f"{monday + DAY}T09:00:00Z", minutes=7 * 60 + 50)
    given.logged(by, task, start=f"{monday + 2 * DAY}T09:00:00Z", minutes=5 * 60)
    given.logged(by, task, start=f"{monday + 5 * DAY}T09:00:00Z", minutes=60)  # Saturday
    given.logged(by, task, start=f"{monday - DAY}T09:00:00Z", minutes=600)  # the week before
    by.patch("/api/me/working-hours", {"daysOff": [{"from": f"{monday + 4 * DAY}", "to": f"{monday + 4 * DAY}"}]})

    browser = browsers.person()
    row = rows_of(browser, "Hours of each person by day", f"/console?week={monday + 3 * DAY}")[by.email.partition("@")[0]]
    assert row == ["8:00", "7:50", "5:00 −3:00 missing", "0:00 −8:00 missing", "·", "1:00", "·", "21:50", "32:00", "11:00"]
    page = browser.get(f"/console?week={monday}")
    assert page.html.one("a", href="/console#hours").text == "This week"
    assert [link["href"] for link in page.html.one("nav", aria_label="Weeks").all("a")] == [
        f"/console?week={monday - 7 * DAY}#hours", f"/console?week={monday + 7 * DAY}#hours", "/console#hours"
    ]  # fmt: skip
    assert browser.get("/console?week=nonsense").status == 422
    # an admin's names lead to the hours; another person's only their own
    link = f"/console/hours?person={by.id}&week={monday}"
    assert not list(page.html.all("a", href=link))
    assert list(browsers.of(by).get(f"/console?week={monday}").html.all("a", href=link))
    assert list(browsers.admin().get(f"/console?week={monday}").html.all("a", href=link))


def test_a_running_timer_counts_on_the_day_of_its_start(given: Given, browsers: Browsers, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    since = datetime.now(UTC) - timedelta(minutes=90)
    by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": since.strftime("%Y-%m-%dT%H:%M:%SZ")}, status=201)
    row = rows_of(browsers.of(by), "Hours of each person by day", f"/console?week={since.date()}")[by.email.partition("@")[0]]
    assert row[since.weekday()].startswith("1:30") and row[7] == "1:30"


def test_only_an_admin_sees_what_needs_a_decision_and_what_is_wrong(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    by, admin = given.person(), browsers.admin()
    assert "What needs a decision" not in browsers.of(by).get("/console").answer.text
    stint.rows("DELETE FROM messages WHERE state = 'dead' RETURNING 1")
    page = admin.get("/console")
    assert "Nothing is wrong" in page.text and "dead letter" not in page.html.one("section", aria_labelledby="decisions").text

    given.many_bills(by, given.task(by), 3, first="2026-01-05")
    customer = given.customer(by)
    for _ in range(2):  # there is no mail server
        by.post(f"/api/customers/{customer['id']}/users/invite", {"email": f"{given.new_id()}@acme.example", "name": "Jo"})
    given.settled()
    with stint.sql() as conn:
        conn.execute("UPDATE heartbeats SET seen_at = now() - interval '1 hour' WHERE kind = 'relay'")
    page = admin.get("/console")
    bills, minutes = stint.rows("SELECT count(*), sum(minutes) FROM time_bills WHERE status = 'pending' AND date < now()")[0]
    assert f"{bills} bills to approve {minutes // 60}:{minutes % 60:02} h" in page.text
    assert "2 dead letters in 1 group" in page.text
    assert {link["href"] for link in page.html.one("section", aria_labelledby="decisions").all("a")} == {
        "/console/approve", "/console/dead-letters"
    }  # fmt: skip
    stint.rows("DELETE FROM messages WHERE state = 'dead' RETURNING 1")


def test_the_page_listens_to_changes_with_its_session_and_no_longer(given: Given, browsers: Browsers) -> None:
    by = given.person()
    task, browser = given.task(by), browsers.of(by)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    with browser.http.stream("GET", "/console/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == "event: reset"
        by.post(f"/api/tasks/{task['id']}/start")
        assert "event: activeTimer" in lines
        browser.post("/console/sign-out")
        assert by.http.post("/auth/sign-out").status_code == 204  # changes the user's row, so the stream checks its session
        started = time.monotonic()
        assert list(lines)[-1:] in ([], [""]) and time.monotonic() - started < 15
    asked = httpx2.get(f"{given.stint.url}/console/events", headers=headers | {"Accept": "text/event-stream"})
    assert asked.status_code == 204  # a browser does not connect again


@pytest.mark.parametrize(
    ("seconds", "started", "expected"),
    [
        (8 * 3600 - 1, "2026-03-02T09:00:00Z", False),
        (8 * 3600, "2026-03-02T09:00:00Z", True),
        (60, "2026-03-01T22:59:00Z", True),  # still the day before in Berlin
        (60, "2026-03-01T23:01:00Z", False),
    ],
)
def test_a_timer_of_another_day_or_of_eight_hours_looks_forgotten(seconds: int, started: str, expected: bool) -> None:
    ids = UUID(int=1)
    timer = RunningTimer(ids, "Jo", ids, "a task", "a customer", datetime.fromisoformat(started), seconds)
    assert timer.looks_forgotten(date(2026, 3, 2), ZoneInfo("Europe/Berlin"), hours=8) is expected


def test_less_than_a_quarter_of_an_hour_is_not_missing_and_a_day_that_is_not_over_lacks_nothing() -> None:
    day = date(2026, 3, 2)
    assert [Day(day, seconds, 28_800, is_over=True).missing for seconds in (0, 27_900, 27_901, 30_000)] == [28_800, 900, 0, 0]
    assert Day(day, 0, 28_800, is_over=False).missing == 0
