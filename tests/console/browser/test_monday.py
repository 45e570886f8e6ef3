"""The Monday of a firm of twenty: what an admin has to do, from the first page on, with how many clicks and seconds.

The seconds are those of the browser and of Stint alone: a person who reads needs more. To see them:

./stint test --browser -n 0 -s tests/console/browser/test_monday.py
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from api.console.sessions import COOKIE
from schemas.identity.work_calendar import monday
from tests.console.browser.demo import DemoFirm
from tests.console.browser.visitors import Visitors
from tests.console.client import Browser
from tests.support.given import Given
from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.browser

JOBS = re.findall(r"^\| ([^|]+) \| (\d+) \| \d\.\d s \|$", (CHECKOUT / "docs/console.md").read_text(), re.MULTILINE)


@dataclass
class Hand:
    """An admin's hand on the mouse: counts clicks. What is typed is not counted."""

    page: Page
    clicks: int = 0

    def click(self, place: Locator) -> None:
        place.click()
        self.clicks += 1

    def link(self, name: str | re.Pattern[str]) -> None:
        self.click(self.page.get_by_role("link", name=name).first)

    def button(self, name: str | re.Pattern[str]) -> None:
        self.click(self.page.get_by_role("button", name=name).first)


@pytest.fixture
def given(demo_firm: DemoFirm) -> Given:
    """People are those of the firm."""
    return demo_firm.given


@contextmanager
def job(visitors: Visitors, firm: DemoFirm, name: str) -> Iterator[Hand]:
    """A job, begun on the first page. Prints its clicks and seconds, and compares the clicks with those in docs/console.md."""
    visitor = visitors.of(firm.admin)
    hand = Hand(visitor.open("/console"))
    started = time.monotonic()
    yield hand
    print(f"\n{name}: {hand.clicks} clicks, {time.monotonic() - started:.1f} s")
    assert (name, str(hand.clicks)) in JOBS, f"{hand.clicks} clicks"


def last_week(firm: DemoFirm) -> tuple[date, date]:
    """Monday and Sunday of the last week that is over, or on a Monday the same."""
    today = firm.stint.value("SELECT (now() AT TIME ZONE %s)::date", firm.stint.settings.stint_timezone)
    first = monday(today) - timedelta(weeks=1)
    return first, first + timedelta(days=6)


def test_approve_last_week_but_one_bill(visitors: Visitors, demo_firm: DemoFirm) -> None:
    first, last = last_week(demo_firm)
    count = "SELECT status, count(*)::int FROM time_bills WHERE date BETWEEN %s AND %s AND deleted_at IS NULL GROUP BY 1"
    before = dict(demo_firm.stint.rows(count, first, last))
    with job(visitors, demo_firm, "Approve last week, but one bill, which is rejected with a reason") as hand:
        page = hand.page
        hand.link(re.compile("bills to approve"))
        if page.get_by_label("Week of").input_value() != first.isoformat():
            page.get_by_role("link", name="Week before").click()  # not on a Monday
        hand.click(page.locator("td[data-item] a").first)
        hand.click(page.get_by_text("Reject …").first)
        page.get_by_label(re.compile("^Reason, which")).first.fill("Please name the ticket.")
        hand.click(page.locator("article.bill").first.get_by_role("button", name=re.compile("^Reject")))
        expect(page.get_by_role("status").first).to_contain_text("Rejected.")
        hand.button(re.compile(r"^Approve \d+ bills"))
        expect(page.get_by_role("status").first).to_contain_text(f"Approved {before['pending'] - 1:,} bills.")
    after = dict(demo_firm.stint.rows(count, first, last))
    assert (after.get("pending", 0), after["rejected"]) == (0, before.get("rejected", 0) + 1)


def test_who_has_hours_missing(visitors: Visitors, demo_firm: DemoFirm) -> None:
    with job(visitors, demo_firm, "See who has hours missing in the week before") as hand:
        hand.link("Week before")
        week = hand.page.get_by_role("region", name="Hours of each person by day")
        expect(hand.page.get_by_role("heading", name=re.compile("Hours of the week"))).to_be_visible()
        assert week.locator("tbody tr").count() == 22 and week.locator(".badge.warn").count() > 0


def test_fix_a_forgotten_timer(visitors: Visitors, demo_firm: DemoFirm) -> None:
    stint = demo_firm.stint
    forgotten = """
        SELECT u.id, u.name, to_char((t.start_time + interval '2 hours') AT TIME ZONE %s, 'YYYY-MM-DD"T"HH24:MI')
        FROM timers t JOIN users u ON u.id = t.user_id ORDER BY t.start_time LIMIT 1
    """
    [(user_id, name, end)] = stint.rows(forgotten, stint.settings.stint_timezone)
    with job(visitors, demo_firm, "Fix a forgotten timer: stop it at the time when the work ended") as hand:
        page = hand.page
        # just after midnight, the other timers look forgotten, too
        hand.click(page.get_by_role("row", name=re.compile(f"{name}.*Looks forgotten")).get_by_role("link"))
        page.get_by_label("When the work ended").fill(end)
        hand.button("Stop at this time")
        expect(page.get_by_text("No timer is running.")).to_be_visible()
    demo_firm.given.settled()
    made = """
        SELECT extract(epoch FROM end_time - start_time)::int FROM time_entries
        WHERE user_id = %s ORDER BY created_at DESC LIMIT 1
    """
    assert 7_140 <= stint.value(made, user_id) <= 7_200  # the field has no seconds


def test_why_a_bill_did_not_reach_xero(visitors: Visitors, demo_firm: DemoFirm) -> None:
    with job(visitors, demo_firm, "See why an approved bill did not reach Xero") as hand:
        hand.link(re.compile("approved but not in Xero"))
        hand.link("Compare bills with Xero")
        expect(hand.page.get_by_text("Time cannot be added to a closed project").first).to_be_visible()


def test_replay_what_failed_last_night(visitors: Visitors, demo_firm: DemoFirm) -> None:
    stint = demo_firm.stint
    demo_firm.given.settled(seconds=60)
    bills = stint.rows("SELECT body->>'bill_id' FROM messages WHERE state = 'dead' AND actor = 'sync_bill'")
    projects = """
        SELECT DISTINCT c.xero_project_id FROM customers c JOIN time_bills b ON b.customer_id = c.id WHERE b.id = ANY(%s)
    """
    ids = [UUID(bill) for (bill,) in bills]
    [(project,)] = stint.rows(projects, ids)
    demo_firm.xero.change_project({"projectId": project}, status="INPROGRESS")  # the cause
    with job(visitors, demo_firm, "Replay what failed last night, one message first") as hand:
        page = hand.page
        hand.link(re.compile("dead letters"))
        hand.click(page.get_by_role("row", name=re.compile("sync_bill")).get_by_role("link", name=re.compile("Replay")))
        expect(page.get_by_text(f"{len(ids)} dead letters would be sent again.")).to_be_visible()
        page.get_by_label("Reason").fill("The project is open again")
        page.get_by_label("Canary").fill("1")
        hand.button(f"Replay {len(ids)} dead letters")
        expect(page.get_by_role("heading", level=1)).to_have_text("Replay")
        expect(page.get_by_text("All that was sent has an outcome.")).to_be_visible(timeout=60_000)
    assert stint.rows("SELECT DISTINCT xero_status FROM time_bills WHERE id = ANY(%s)", ids) == [("synced",)]


def test_the_first_page_and_its_files_are_small(demo_firm: DemoFirm) -> None:
    browser = Browser(demo_firm.stint).sign_in_as(demo_firm.admin)
    headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": "none", "Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}

    def bytes_of(path: str) -> int:
        with browser.http.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip", path
            return sum(len(part) for part in answer.iter_raw()) + sum(len(a) + len(b) + 4 for a, b in answer.headers.raw)

    files = set(re.findall(r'(?:href|src)="(/console/static/[^"]+)"', browser.get("/console").answer.text))
    sizes = {path.rpartition("/")[2]: bytes_of(path) for path in ("/console", *files)}
    print(f"\n{sum(sizes.values()):,} bytes: {sizes}")
    assert len(files) >= 4 and sum(sizes.values()) < 60_000
    browser.close()


def test_all_jobs_of_the_page_are_done_here() -> None:
    mine = (CHECKOUT / "tests/console/browser/test_monday.py").read_text()
    assert len(JOBS) >= 3 and [name for name, _ in JOBS if f'"{name}"' not in mine] == []
