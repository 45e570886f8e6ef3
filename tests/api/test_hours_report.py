"""GET /api/reports/hours over HTTP: who sees which hours, JSON, CSV, and wrong queries."""

import csv
import io
from typing import Any

from tests.support.answers import problem
from tests.support.given import Given
from tests.support.installation import CHECKOUT
from tests.support.pages import assert_answers, sample

PATH = "/api/reports/hours"
MARCH: dict[str, Any] = {"startDate": "2026-03-01", "endDate": "2026-03-31"}


def test_the_firm_sees_all_hours_and_a_customer_its_own_approved_ones(given: Given) -> None:
    admin, by = given.admin(), given.person()
    task = given.task(admin, given.customer(admin, name="Acme", rounding={"increment": 15, "mode": "up"}))
    approved = given.bill(by, task, minutes=50)
    assert admin.patch(f"/api/time-bills/{approved['id']}", {"status": "approved"})["minutes"] == 60
    given.bill(by, task, start="2026-03-09T09:00:00Z", minutes=31)
    given.approved_bill(by, admin, minutes=45)  # of another customer
    only = MARCH | {"customerId": task["customerId"]}

    found = by.get(PATH, groupBy="customer,week", **only)
    totals = {
        "bills": 2, "seconds": 81 * 60, "minutes": 105, "approvedMinutes": 60, "unapprovedMinutes": 45, "notInXeroMinutes": 60
    }  # fmt: skip
    assert found["totals"] == totals
    assert_answers(sample(CHECKOUT / "docs/api.md", '{"groupBy"'), by.get(PATH, groupBy="customer,month", **only))
    assert [(item["week"], item["minutes"]) for item in found["items"]] == [("2026-03-02", 60), ("2026-03-09", 45)]
    assert [(item["customerId"], item["minutes"]) for item in found["subtotals"]] == [(task["customerId"], 105)]
    by_customer = {item["customerId"]: item["minutes"] for item in by.get(PATH, userId="me", **MARCH)["items"]}
    assert by_customer[task["customerId"]] == 105 and len(by_customer) == 2

    theirs = given.person("customer_user", task["customerId"])
    seen = theirs.get(PATH, groupBy="person,month", **MARCH)
    of_customer = {
        "bills": 1, "seconds": 3000, "minutes": 60, "approvedMinutes": 60, "unapprovedMinutes": 0, "notInXeroMinutes": None
    }  # fmt: skip
    assert seen["totals"] == of_customer
    assert [(item["userId"], item["month"], item["customerId"]) for item in seen["items"]] == [(by.id, "2026-03-01", None)]
    assert theirs.http.get(PATH, params={"status": "pending"} | MARCH).json()["items"] == []
    problem(theirs.http.get(PATH, params={"xeroStatus": "failed"}), 403)
    answer = theirs.http.get(PATH, params={"format": "csv", "groupBy": "pillar"} | MARCH)
    [row] = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
    assert (row["minutes"], row["unapprovedMinutes"]) == ("60", "0") and "notInXeroMinutes" not in row


def test_csv_has_the_items_for_a_spreadsheet(given: Given) -> None:
    by = given.person()
    names = ["=1+1", "@Über", "Zoë"]
    tasks = [given.task(by, given.customer(by, name=f"{name} {given.new_id()}")) for name in names]
    for task in tasks:
        given.many_bills(by, task, 300, first="2026-01-01")
    query: dict[str, Any] = {
        "startDate": "2026-01-01",
        "endDate": "2026-12-31",
        "userId": "me",
        "groupBy": "customer,day",
        "format": "csv",
    }

    answer = by.http.get(PATH, params=query)

    assert answer.status_code == 200 and answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="hours-2026-01-01-2026-12-31.csv"'
    assert answer.content.startswith(b"\xef\xbb\xbfcustomerId,customerName,day,bills,seconds,minutes,approvedMinutes,")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    items = by.get(PATH, **query | {"format": "json"})["items"]
    assert len(rows) == len(items) == 900
    assert [(row["customerId"], row["day"], int(row["minutes"])) for row in rows] == [
        (item["customerId"], item["day"], item["minutes"]) for item in items
    ]
    assert {row["customerName"][:3] for row in rows} == {"'=1", "'@Ü", "Zoë"}
    assert by.http.head(PATH, params=query).headers["content-type"] == "text/csv; charset=utf-8"


def test_wrong_queries_say_what_is_right(given: Given) -> None:
    by = given.person()
    for query, path in (
        ("groupBy=customer,customer", "groupBy"),
        ("groupBy=customer,pillar,month", "groupBy"),
        ("groupBy=year", "groupBy"),
        ("groupBy=customer&groupBy=month", "groupBy"),
        ("startDate=2026-02-01&endDate=2026-01-31", "endDate"),
        ("startDate=2020-01-01&endDate=2026-01-31", "endDate"),
        ("startDate=2026-02-30", "startDate"),
        ("format=xml", "format"),
        ("pillarId=5", "pillarId"),
        ("customer=a&customerId=5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f", "customer"),
        ("limit=5", "limit"),
    ):
        assert [error["path"] for error in problem(by.http.get(f"{PATH}?{query}"), 422)["errors"]] == [path], query
    far = by.get(PATH, startDate="9999-12-31", groupBy="week")
    assert (far["startDate"], far["endDate"], far["items"]) == ("9999-12-31", "9999-12-31", [])
    assert by.get(PATH, endDate="0001-01-01")["items"] == []
