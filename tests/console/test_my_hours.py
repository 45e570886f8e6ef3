"""The page of customers' users: approved hours of their own customer, and nothing of another one."""

import csv
import io

from tests.console.client import Browser, Browsers
from tests.support.given import Given


def table(browser: Browser, path: str = "/console/my-hours?year=2026") -> list[list[str]]:
    """The cells of the page's table, row by row."""
    page = browser.get(path)
    assert page.status == 200
    return [[cell.text for cell in row.all() if cell.tag in ("th", "td")] for row in page.html.all("tr")]


def test_a_customers_user_sees_the_approved_hours_of_their_own_customer_only(given: Given, browsers: Browsers) -> None:
    by, admin = given.person(), given.admin()
    own, other = given.customer(by), given.customer(by)
    hosting = by.post(f"/api/customers/{own['id']}/pillars", {"name": '=HYPERLINK("x")'})
    tasks = [given.task(by, own), given.task(by, own, pillarId=hosting["id"]), given.task(by, other)]
    for task, start, minutes in (
        (tasks[0], "2026-03-02T09:00:00Z", 90),
        (tasks[1], "2026-03-03T09:00:00Z", 30),
        (tasks[0], "2026-05-04T09:00:00Z", 60),
        (tasks[2], "2026-03-04T09:00:00Z", 111),
        (tasks[0], "2025-12-30T09:00:00Z", 15),
    ):
        bill = given.bill(by, task, start=start, minutes=minutes)
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})
    given.bill(by, tasks[0], start="2026-06-01T09:00:00Z", minutes=480)  # not approved
    rejected = given.bill(by, tasks[0], start="2026-07-01T09:00:00Z", minutes=240)
    admin.patch(f"/api/time-bills/{rejected['id']}", {"status": "rejected", "rejectionNote": "wrong task"})

    browser = browsers.person("customer_user", own["id"])
    assert table(browser) == [
        ["Month", '=HYPERLINK("x")', "General Support", "Total"],
        ["May 2026", "·", "1:00", "1:00"],
        ["Mar 2026", "0:30", "1:30", "2:00"],
        ["2026", "0:30", "2:30", "3:00"],
    ]
    page = browser.get("/console/my-hours?year=2026")
    assert own["name"] in page.text and other["name"] not in page.answer.text and "1:51" not in page.answer.text
    assert table(browser, "/console/my-hours?year=2025")[-1][-1] == "0:15"
    assert "No hours of 2024 are approved yet" in browser.get("/console/my-hours?year=2024").text

    file = browser.get("/console/my-hours/csv?year=2026").answer
    assert file.headers["content-type"] == "text/csv; charset=utf-8" and "hours-2026.csv" in file.headers["content-disposition"]
    assert file.content.startswith(b"\xef\xbb\xbf")
    assert list(csv.reader(io.StringIO(file.content.decode("utf-8-sig")))) == [
        ["month", "pillar", "minutes", "hours"],
        ["2026-03", '\'=HYPERLINK("x")', "30", "0.50"],
        ["2026-03", "General Support", "90", "1.50"],
        ["2026-05", "General Support", "60", "1.00"],
    ]

    theirs = browsers.person("customer_admin", other["id"])
    assert table(theirs)[1:] == [["Mar 2026", "1:51", "1:51"], ["2026", "1:51", "1:51"]]
    assert own["name"] not in theirs.get("/console/my-hours/csv?year=2026").answer.text
    # whatever the query says, it is the user's own customer
    for query in (f"customer={own['id']}", f"customerId={own['id']}", f"customer_id={own['id']}"):
        assert own["name"] not in theirs.get(f"/console/my-hours?year=2026&{query}").answer.text


def test_the_navigation_of_a_customers_user_has_their_hours_only(given: Given, browsers: Browsers) -> None:
    browser = browsers.person("customer_user", given.customer(given.person())["id"])
    page = browser.get("/console")
    assert page.answer.url.path == "/console/my-hours"
    assert [link["href"] for link in page.html.one("nav", aria_label="Pages").all("a")] == ["/console/my-hours"]
    assert browser.get("/console/my-hours?year=nonsense").status == 422
