"""Filters in the URL that are not valid: 422 and what is wrong, never a page of something else; and the first and last days."""

from typing import Any

import pytest

from tests.console.client import Browsers
from tests.support.given import Given

DAYS = ("0001-01-01", "9999-12-31", "1899-12-31", "9000-01-02", "x", "99999", "1767225600")
ENDS = ("1900-01-01", "9000-01-01", "2026-03-02")  # the first and the last day that Stint takes
WEEKS = ("/console", "/console/hours", "/console/hours/tasks", "/console/approve")


def test_a_day_that_is_none_is_named_and_the_first_and_the_last_one_are_shown(browsers: Browsers) -> None:
    admin = browsers.admin()
    for path in WEEKS:
        for day in DAYS:
            page = admin.get(path, week=day)
            assert page.status == 422 and "week" in page.text, (path, day)
        for day in ENDS:
            assert admin.get(path, week=day).status == 200, (path, day)
    for path in ("/console/reports", "/console/connections/xero/differences"):
        for name in ("start_date", "end_date"):
            for day in DAYS:
                sent: dict[str, Any] = {name: day}
                page = admin.get(path, **sent)
                assert page.status == 422 and name in page.errors, (path, day)


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("/console?week=99999", ""),
        ("/console/queues?still=q", ""),
        ("/console/hours/tasks?week=x", ""),
        ("/console/hours?person=x", "person"),
        ("/console/customers?inactive=zz", "inactive"),
        (f"/console/customers?search={'x' * 300}", "search"),
        ("/console/customers/{customer_id}/tasks?status=x", "status"),
        (f"/console/customers/{{customer_id}}/tasks?cursor={'x' * 1_001}", "cursor"),
        ("/console/customers/{customer_id}/tasks?cursor=x", ""),
        (f"/console/customers/{{customer_id}}/people?cursor={'x' * 1_001}", ""),
        ("/console/customers/{customer_id}/people?cursor=x", ""),
        ("/console/connections/xero/differences?start_date=2026-03-02&end_date=2026-03-01", "end_date"),
        ("/console/connections/xero/differences?cursor=x", "cursor"),
        ("/console/connections/xero/differences?show=x", "show"),
        ("/console/reports?start_date=2026-03-02&end_date=2026-03-01", "end_date"),
        ("/console/dead-letters/list?state=x", "state"),
    ],
)  # fmt: skip
def test_a_filter_that_is_not_valid_is_named(given: Given, browsers: Browsers, path: str, beside: str) -> None:
    customer = given.customer(given.admin())
    page = browsers.admin().get(path.replace("{customer_id}", customer["id"]))
    assert page.status == 422, page.text
    assert page.errors.keys() == ({beside} if beside else set())
    assert "must be" in page.text or page.errors or "not a valid cursor" in page.text


def test_the_year_of_a_customers_hours_is_named_if_it_is_none(given: Given, browsers: Browsers) -> None:
    customer = given.customer(given.admin())
    browser = browsers.person("customer_user", customer["id"])
    for path in ("/console/my-hours", "/console/my-hours/csv"):
        for year in ("99999", "0", "x", "1899", "9000"):
            page = browser.get(path, year=year)
            assert page.status == 422 and "year must be" in page.text, (path, year)
        assert browser.get(path, year="1900").status == browser.get(path, year="8999").status == 200
