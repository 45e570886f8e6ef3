"""The page of reports: what it shows, its filters in the URL, and what it says where there is nothing to show."""

import csv
import io
from datetime import date, timedelta
from typing import Any

import pytest

from tests.console.client import Browsers, Page
from tests.support.answers import Json
from tests.support.given import Given, Person

PATH = "/console/reports"
MARCH: dict[str, Any] = {"start_date": "2026-03-01", "end_date": "2026-03-31"}


@pytest.fixture
def consultant(given: Given) -> Person:
    return given.person()


def rows(page: Page) -> list[list[str]]:
    """The rows of the table, with the heads of rows."""
    table = page.html.one("table")
    lines = [line for line in table.all("tr")][1:]
    return [[cell.text for cell in line.all() if cell.tag in ("th", "td")] for line in lines]


def customer_with_bills(given: Given, admin: Person, by: Person, name: str) -> Json:
    """A task of a new customer: 50 minutes rounded up to an hour and approved, 31 minutes of another week pending."""
    customer = given.customer(admin, name=f"{name} {given.new_id()[:8]}", rounding={"increment": 15, "mode": "up"})
    task = given.task(admin, customer)
    approved = given.bill(by, task, minutes=50)
    admin.patch(f"/api/time-bills/{approved['id']}", {"status": "approved"})
    given.bill(by, task, start="2026-03-09T09:00:00Z", minutes=31)
    return customer


def test_it_shows_the_hours_by_two_levels_with_subtotals_and_a_total(
    given: Given, browsers: Browsers, consultant: Person
) -> None:
    admin = given.admin()
    customers = [customer_with_bills(given, admin, consultant, name) for name in ("Acme <b>", "Bolt & Co")]
    browser = browsers.of(given.person())
    page = browser.get(PATH, by="customer", then="week", user_id=consultant.id, **MARCH)

    assert (page.status, page.title) == (200, "Reports")
    assert "Hours by customer and week, Mar 2026" in page.text
    own, half = ["1", "0:50", "1:00", "1:00", "0:00", "1:00"], ["1", "0:31", "0:45", "0:00", "0:45", "0:00"]
    both = ["2", "1:21", "1:45", "1:00", "0:45", "1:00"]
    assert rows(page) == [
        [customers[0]["name"], *both],
        ["Week of Mon 2 Mar", *own],
        ["Week of Mon 9 Mar", *half],
        [customers[1]["name"], *both],
        ["Week of Mon 2 Mar", *own],
        ["Week of Mon 9 Mar", *half],
        ["Total", "4", "2:42", "3:30", "2:00", "1:30", "2:00"],
    ]
    assert [mark["scope"] for mark in page.html.one("table").all("th", scope="rowgroup")] == ["rowgroup"] * 2
    assert len(list(page.html.one("ol", class_="bars").all("li"))) == 2
    assert f"Person: {consultant.email.partition('@')[0]}" in page.text

    # a closer look at a row: the same bills alone
    link = next(page.html.one("table").all("a", href=True))
    closer = browser.get(link["href"])
    assert rows(closer)[-1] == ["Total", *both] and len(rows(closer)) == 3
    week = [a for a in closer.html.one("table").all("a", href=True) if a.text == "Week of Mon 9 Mar"]
    assert rows(browser.get(week[0]["href"])) == [["Mon 9 Mar", *half], ["Total", *half]]


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        ("2011-01-01", "2011-12-31", "2011"),
        ("2012-02-01", "2012-02-29", "Feb 2012"),
        ("2011-01-02", "2011-12-31", "Sun 2 Jan 2011 to Sat 31 Dec 2011"),
    ],
)
def test_its_title_names_the_days(first: str, last: str, days: str, browsers: Browsers) -> None:
    page = browsers.person().get(PATH, by="month", start_date=first, end_date=last)
    assert f"Hours by month, {days}" in " ".join(page.text.split())


def test_csv_is_the_same_report_as_a_file(given: Given, browsers: Browsers, consultant: Person) -> None:
    customer = customer_with_bills(given, given.admin(), consultant, "=Acme")
    browser = browsers.person()
    page = browser.get(PATH, by="pillar", customer_id=customer["id"], **MARCH)
    [link] = [a for a in page.html.all("a", href=True) if a.text == "Download as CSV"]
    answer = browser.request("GET", link["href"]).answer
    assert answer.status_code == 200 and answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="hours-2026-03-01-2026-03-31.csv"'
    [row] = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
    assert (row["minutes"], row["customerName"]) == ("105", f"'{customer['name']}")
    refused = browser.get(f"{PATH}/hours.csv", follow=False, by="nothing")
    assert (refused.status, refused.location) == (303, f"{PATH}?by=nothing")


@pytest.mark.parametrize("by", ["customer", "pillar", "person", "day", "week", "month"])
def test_each_level_has_a_table_and_a_chart_of_the_same_hours(
    by: str, given: Given, browsers: Browsers, consultant: Person
) -> None:
    task = given.task(consultant)
    given.many_bills(consultant, task, 40, first="2026-03-20")
    days: dict[str, Any] = {"start_date": "2026-03-20", "end_date": "2026-06-30", "user_id": consultant.id}
    page = browsers.person().get(PATH, by=by, **days)
    assert page.status == 200 and rows(page)[-1][:4] == ["Total", "40", "40:00", "40:00"]
    counts = {"customer": 1, "pillar": 1, "person": 1, "day": 40, "week": 7, "month": 2}
    assert len(rows(page)) == counts[by] + 1
    charts = list(page.html.all("figure"))
    if by in ("customer", "pillar", "person"):
        assert charts == []  # one bar says nothing
    else:
        # also the days, weeks and months without hours
        assert len(list(charts[0].all("g"))) == {"day": 103, "week": 16, "month": 4}[by]


def test_the_chart_has_the_names_with_most_hours_and_says_how_many_others_there_are(
    given: Given, browsers: Browsers, consultant: Person
) -> None:
    admin = given.admin()
    for number in range(17):
        task = given.task(admin, given.customer(admin, name=f"Customer {number:02} {given.new_id()[:6]}"))
        given.many_bills(consultant, task, 1, seconds=3600 * (number + 1), first="2026-03-02")
    chart = browsers.person().get(PATH, user_id=consultant.id, **MARCH).html.one("figure")
    bars = [bar.text.split() for bar in chart.one("ol", class_="bars").all("li")]
    assert [bar[1] for bar in bars] == [f"{number:02}" for number in range(16, 1, -1)]
    assert bars[0][-1] == "17:00" and "and 2 more with 3:00" in chart.text


def test_without_hours_it_says_what_to_do(given: Given, browsers: Browsers, consultant: Person) -> None:
    customer = given.customer(given.admin())
    browser = browsers.person()
    page = browser.get(PATH, customer_id=customer["id"], status="rejected", start_date="2011-01-01", end_date="2011-01-31")
    assert page.status == 200 and not list(page.html.all("table"))
    assert "Nobody has bills in these days that fit the filters." in page.text
    links = {a.text: a["href"] for a in page.html.one("div", class_="empty").all("a", href=True)}
    without = browser.get(links["Show all hours of these days"])
    assert "2011-01-01" in links["Show this year"] or str(date.today().year) in links["Show this year"]
    assert without.status == 200 and f"Customer: {customer['name']}" not in without.text


def test_it_shows_the_last_days_and_links_to_other_periods(browsers: Browsers) -> None:
    browser = browsers.person()
    page = browser.get(PATH)
    form = page.html.one("form", class_="filters").fields()
    first, last = date.fromisoformat(form["start_date"]), date.fromisoformat(form["end_date"])
    assert (last - first).days == 29
    periods = {a.text: a for a in page.html.one("nav", aria_label="Periods").all("a")}
    assert [name for name, link in periods.items() if "aria-current" in link.attributes] == ["Last 30 days"]
    found = browser.get(periods["Last month"]["href"])
    assert [a.text for a in found.html.all("a", aria_current="true")] == ["Last month"]
    fields = found.html.one("form", class_="filters").fields()
    first, end = date.fromisoformat(fields["start_date"]), date.fromisoformat(fields["end_date"])
    assert first.day == 1 and (end + timedelta(days=1)).day == 1 and 27 <= (end - first).days <= 30 and end < last


def test_wrong_filters_are_named_beside_their_fields(given: Given, browsers: Browsers) -> None:
    browser = browsers.person()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"start_date": "2026-02-30"}, "start_date"),
        ({"start_date": "0001-01-01"}, "start_date"),
        ({"end_date": "nonsense"}, "end_date"),
        ({"by": "year"}, "by"),
        ({"then": "customer,day"}, "then"),
        ({"customer_id": "5"}, "customer_id"),
        ({"status": "done"}, "status"),
        ({"xero_status": "x" * 200}, "xero_status"),
        ({"start_date": "2026-03-02", "end_date": "2026-03-01"}, "end_date"),
        ({"start_date": "2020-03-02", "end_date": "2026-03-01"}, "end_date"),
    ]
    for query, field in wrong:
        page = browser.get(PATH, **query)
        assert page.status == 422 and list(page.errors) == [field], (query, page.errors)
        assert not list(page.html.all("table"))
    assert browser.get(PATH, unknown="5", then="", customer_id="").status == 200


def test_a_pillar_of_another_customer_is_left_out(given: Given, browsers: Browsers, consultant: Person) -> None:
    admin = given.admin()
    customer, other = (customer_with_bills(given, admin, consultant, name) for name in ("Acme", "Bolt"))
    pillars = {one["id"]: admin.get(f"/api/customers/{one['id']}/pillars")["items"][0]["id"] for one in (customer, other)}
    only: dict[str, Any] = MARCH | {"customer_id": customer["id"]}
    browser = browsers.person()
    page = browser.get(PATH, by="pillar", pillar_id=pillars[other["id"]], **only)
    assert rows(page)[-1][1] == "2"
    assert page.html.one("form", class_="filters").fields()["pillar_id"] == ""
    page = browser.get(PATH, by="pillar", pillar_id=pillars[customer["id"]], **only)
    assert page.html.one("form", class_="filters").fields()["pillar_id"] == pillars[customer["id"]]


def test_a_long_report_has_pages_and_one_file(given: Given, browsers: Browsers, consultant: Person) -> None:
    admin = given.admin()
    for _ in range(2):
        given.many_bills(consultant, given.task(admin), 340, first="2025-01-01")
    browser = browsers.person()
    query: dict[str, Any] = {
        "by": "day",
        "then": "customer",
        "user_id": consultant.id,
        "start_date": "2025-01-01",
        "end_date": "2025-12-31",
    }
    page = browser.get(PATH, **query)
    assert "Rows 1 to 500 of 680. Subtotals, the total and the CSV file are of all." in page.text
    assert len(rows(page)) == 500 + 250 + 1 and rows(page)[-1][1:3] == ["680", "680:00"]
    assert rows(page)[0][1] == "2" and len(list(page.html.one("figure").all("g"))) == 365
    pages = page.html.one("nav", aria_label="Pages of the table")
    assert [link.text for link in pages.all("a")] == ["More rows"]
    last = browser.get(pages.one("a")["href"])
    assert "Rows 501 to 680 of 680." in last.text and len(rows(last)) == 180 + 90 + 1
    assert rows(last)[-1] == rows(page)[-1] and rows(page)[0][0] == "Wed 1 Jan 2025" and rows(last)[0][0] == "Mon 8 Sep 2025"
    back = last.html.one("a", rel="prev")["href"]
    assert rows(browser.get(back)) == rows(page) and "page=" not in back
    beyond = browser.get(PATH, follow=False, page=7, **query)
    assert beyond.status == 303 and rows(browser.get(beyond.location)) == rows(page)
    assert all("page=" not in link["href"] for link in last.html.one("nav", aria_label="Periods").all("a"))
    answer = browser.request("GET", f"{PATH}/hours.csv", params=query | {"page": 2}).answer
    assert answer.content.count(b"\r\n") == 681
    assert browser.get(PATH, page="x").status == 422
