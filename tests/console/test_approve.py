"""Approve: the week as a grid; what is approved is what was shown."""

from datetime import date, timedelta
from typing import Any

import pytest

from tests.console.client import Browsers, Page
from tests.console.html import Element
from tests.support.given import Given, Person
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests write rows that `./stint verify` finds wrong."""
    return stint_apart


MONDAY = "2026-03-02"


class Week:
    """Two people with bills in the week of MONDAY, and an admin who looks at it. Names are unique, the week has other tests'
    people too."""

    def __init__(self, given: Given, browsers: Browsers) -> None:
        self.given, self.stint = given, given.stint
        self.admin, self.ada, self.bob = given.admin(), given.person(), given.person()
        self.customer = given.customer(self.admin)
        self.task = given.task(self.admin, self.customer)
        self.browser = browsers.of(self.admin)

    def bills(self, by: Person, count: int = 1, **more: Any) -> list[str]:
        """Bills of one hour on the days from MONDAY on."""
        return self.given.many_bills(by, self.task, count, first=MONDAY, **more)

    def show(self, **query: Any) -> Page:
        return self.browser.get("/console/approve", **({"week": MONDAY, "customer": self.customer["id"]} | query))

    def statuses(self, *bills: str) -> list[str]:
        return [status for (status,) in self.stint.rows(
            "SELECT status FROM time_bills WHERE id = ANY(%s::uuid[]) ORDER BY date, id", list(bills)
        )]  # fmt: skip

    def version(self, bill: str) -> int:
        return int(self.stint.value("SELECT version FROM time_bills WHERE id = %s", bill))

    def change(self, bill: str) -> None:
        """Another hour on the bill, as the owner's change makes it."""
        self.stint.rows(
            "UPDATE time_bills SET seconds = seconds + 3600, version = version + 1 WHERE id = %s RETURNING id", bill
        )


@pytest.fixture
def week(given: Given, browsers: Browsers) -> Week:
    return Week(given, browsers)


def name(person: Person) -> str:
    return person.email.partition("@")[0]


def form(page: Page) -> Element:
    return page.html.one("form", data_sums=True)


def seen(page: Page) -> list[str]:
    """The values of the ticked boxes."""
    return [box["value"] for box in form(page).all("input", name="bills") if "checked" in box.attributes]


def cells(page: Page, person: Person) -> list[str]:
    """The texts of a person's row, after the name."""
    row = next(row for row in page.html.all("tr") if row.text.startswith(name(person)))
    return [cell.text for cell in row.all("td")]


def opened(day: str, person: Person) -> str:
    return f"{person.id}.{day}"


def approve_ticked(week: Week, page: Page) -> Page:
    return week.browser.submit(form(page), {"bills": seen(page)})


def test_the_grid_shows_hours_states_and_sums_of_each_person_and_day(week: Week) -> None:
    first, second, *_ = week.bills(week.ada, 3)
    week.bills(week.bob, 1, seconds=5400)
    week.admin.patch(f"/api/time-bills/{first}", {"status": "approved"})
    week.admin.patch(f"/api/time-bills/{second}", {"status": "rejected", "rejectionNote": "Which server?"})
    week.stint.rows("UPDATE time_entries SET flags = '{long}' WHERE bill_id = %s RETURNING id", second)

    page = week.show()
    assert page.status == 200 and page.title == "Approve"
    assert cells(page, week.ada) == ["1:00 ✓ approved", "1:00 rejected long", "1:00 pending", "", "", "", "", "3:00"]
    assert cells(page, week.bob)[0] == "1:30 pending" and cells(page, week.bob)[-1] == "1:30"
    foot = page.html.one("tfoot").text
    assert foot == "Total 2:30 1:00 1:00 0:00 0:00 0:00 0:00 4:30", foot
    assert "Approve 2 bills" in form(page).text

    whole = week.show(customer="", person=week.ada.id)
    assert cells(whole, week.ada)[-1] == "37:00 missing 3:00 of 40:00", "five days of eight hours"
    assert cells(whole, week.ada)[3] == "– no hours of 8:00"
    assert week.show(week="2026-03-05").html.one("tfoot").text == foot, "any day of the week"
    assert "4:30" not in week.show(week="2026-03-09").text


def test_a_day_opens_its_bills_with_entries_and_notes(week: Week) -> None:
    bill = week.given.bill(week.ada, week.task, minutes=90)
    entry = week.ada.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    week.ada.post(f"/api/time-entries/{entry['id']}/notes", {"notes": "Read <b>all</b> logs"}, status=200)
    week.ada.patch(f"/api/time-bills/{bill['id']}", {"memo": "The outage"})

    page = week.show(open=opened(MONDAY, week.ada))
    text = page.html.one("section", id="open").text
    for part in (name(week.ada), week.customer["name"], "1:30 billed", "Memo: The outage", "Migrate the mail server",
                 "Read <b>all</b> logs", "09:00 – 10:30", "Approve 1:30"):  # fmt: skip
        assert part in text, part
    part = week.browser.get("/console/approve", week=MONDAY, open=opened(MONDAY, week.ada), headers={"HX-Request": "true"})
    assert "<html" not in part.answer.text and "Read &lt;b&gt;all&lt;/b&gt; logs" in part.answer.text
    for nonsense in ("x", f"{week.ada.id}.", f"{week.given.new_id()}.{MONDAY}", opened("2026-03-09", week.ada)):
        assert not week.show(open=nonsense).html.one("section", id="open").text


def test_one_bill_is_approved_rejected_with_a_reason_and_reopened(week: Week) -> None:
    [bill] = week.bills(week.ada)
    target = f"/console/approve/{bill}?week={MONDAY}&customer={week.customer['id']}&open={opened(MONDAY, week.ada)}"

    def send(**fields: Any) -> Page:
        return week.browser.post(target, {"version": week.version(bill)} | fields)

    page = send(status="rejected", rejection_note=" ")
    assert page.status == 422 and "reason" in page.errors["rejection_note"], page.text
    assert send(status="rejected", rejection_note="x" * 2001).errors.keys() == {"rejection_note"}
    assert week.statuses(bill) == ["pending"]
    page = send(status="rejected", rejection_note="Which server?")
    assert str(page.answer.url).endswith(target.replace(f"/{bill}", "")), page.answer.url
    assert "Rejected. The person gets your reason." in page.text and "Rejected: Which server?" in page.text
    assert week.ada.get(f"/api/time-bills/{bill}")["rejectionNote"] == "Which server?"
    assert "pending again" in send(status="pending").text
    assert "was rejected" in cells(week.show(), week.ada)[0]
    assert "Approved." in send(status="approved").text
    approved = week.ada.get(f"/api/time-bills/{bill}")
    assert (approved["status"], approved["approvedBy"]) == ("approved", week.admin.id)
    assert "pending again" in send(status="pending").text
    assert week.statuses(bill) == ["pending"]

    for fields in ({"status": "paid"}, {"status": ""}, {"version": "0", "status": "approved"},
                   {"version": "x", "status": "approved"}, {"status": "approved", "more": "1"},
                   {"version": "9" * 30, "status": "pending"}):  # fmt: skip
        assert send(**fields).status == 422, fields
    assert week.statuses(bill) == ["pending"]
    missing = week.browser.post(f"/console/approve/{week.given.new_id()}", {"version": 1, "status": "approved"})
    assert missing.status == 409 and "were deleted" in missing.text
    assert week.browser.post("/console/approve/nonsense", {"version": 1, "status": "approved"}).status in (404, 422)


def test_all_that_is_ticked_is_approved_with_one_button(week: Week) -> None:
    of_ada, of_bob = week.bills(week.ada, 3), week.bills(week.bob, 2)
    page = week.show()
    boxes = list(form(page).all("input", name="bills"))
    assert len(boxes) == 5 and boxes[0]["aria-label"] == f"Approve {name(min((week.ada, week.bob), key=name))}, Mon 2 Mar"
    left_out = next(box["value"] for box in boxes if of_ada[1] in box["value"])
    sent = [box["value"] for box in boxes if box["value"] != left_out]
    page = week.browser.submit(form(page), {"bills": sent}, follow=False)
    assert page.status == 303 and f"customer={week.customer['id']}" in page.location
    assert "Approved 4 bills." in week.browser.get(page.location).text
    assert week.statuses(*of_ada) == ["approved", "pending", "approved"] and week.statuses(*of_bob) == ["approved"] * 2
    assert "Approve 1 bill " in form(week.show()).text


def test_what_has_changed_since_it_was_shown_is_refused_and_shown_again(week: Week, browsers: Browsers) -> None:
    *bills, left_out = week.bills(week.ada, 5)
    page = week.show()
    week.change(bills[0])
    week.admin.patch(f"/api/time-bills/{bills[1]}", {"status": "rejected", "rejectionNote": "no"})
    another = browsers.of(week.given.admin())
    other_page = another.get("/console/approve", week=MONDAY, customer=week.customer["id"], person=week.ada.id)
    third = next(value for value in seen(other_page) if bills[2] in value)
    assert another.submit(form(other_page), {"bills": [third]}).status == 200, "another admin is first"

    page = week.browser.submit(form(page), {"bills": [value for value in seen(page) if left_out not in value]})
    assert page.status == 409
    summary = page.html.one("div", data_error_summary=True).text
    assert summary.startswith("1 bill was approved, 3 bills were not changed"), summary
    assert summary.count("The bill has changed since you read it; check its figures again.") == 2
    assert summary.count("The bill is approved already.") == 1
    expected = ["2:00 changed pending", "1:00 changed rejected", "1:00 changed ✓ approved", "1:00 ✓ approved"]
    assert cells(page, week.ada)[:4] == expected
    assert week.statuses(*bills) == ["pending", "rejected", "approved", "approved"]

    assert len(seen(page)) == 1 and seen(page)[0].startswith(f"{bills[0]}:2"), "only what was refused is ticked"
    assert "Approved 1 bill." in approve_ticked(week, page).text, "now its new figures have been shown"
    assert week.statuses(bills[0], left_out) == ["approved", "pending"]


def test_one_bill_that_has_changed_is_refused_and_shown_again(week: Week) -> None:
    [bill] = week.bills(week.ada)
    page = week.show(open=opened(MONDAY, week.ada))
    button = next(form for form in page.html.one("article").all("form") if form.fields().get("status") == "approved")
    week.change(bill)
    page = week.browser.submit(button)
    assert page.status == 409 and "The bill has changed since you read it" in page.text
    assert "changed" in page.html.one("article").text and "Approve 2:00" in page.html.one("article").text
    assert week.statuses(bill) == ["pending"]


def test_what_is_no_list_of_shown_bills_approves_nothing(week: Week) -> None:
    [bill] = week.bills(week.ada)
    version = week.version(bill)
    for values in ([], [""], ["nonsense"], [f"{bill}"], [f"{bill}:"], [f"{bill}:-1"], [f"{bill}:0"], [f"{bill}:{version}:1"],
                   [f"{bill}:{version}", "x:1"], [f"{bill}:{'9' * 5000}"], [f"{bill}:{version}", f"{bill}:{version}"],
                   [f"{bill}:{version} " * 2], [f"{week.given.new_id()}:1 " * 1001]):  # fmt: skip
        page = week.browser.post("/console/approve", {"bills": values})
        assert page.status == 422 and "Nothing was approved" in page.text, values
    page = week.browser.post("/console/approve", {"bills": [f"{week.given.new_id()}:1"]})
    assert page.status == 409 and "they were deleted" in page.text
    assert week.statuses(bill) == ["pending"]


def test_the_filters_are_in_the_url_and_rubbish_is_an_error_beside_its_field(week: Week) -> None:
    [first, _] = week.bills(week.ada, 2)
    week.bills(week.bob)
    week.admin.patch(f"/api/time-bills/{first}", {"status": "approved"})
    people = [week.ada, week.bob]

    def shown(**query: Any) -> list[bool]:
        page = week.show(**query)
        return [any(row.text.startswith(name(person)) for row in page.html.all("tr")) for person in people]

    assert shown() == [True, True]
    assert shown(person=week.bob.id) == [False, True]
    assert shown(status="approved") == [True, False]
    assert shown(status="rejected") == [False, False]
    assert shown(pillar=week.task["pillarId"]) == [True, True]
    other = week.given.customer(week.admin)
    assert shown(customer=other["id"]) == [False, False]
    empty = week.show(customer=other["id"])
    assert "No bill of this week fits the filters." in empty.text
    assert empty.html.one("select", id="f-customer").one("option", selected=True).text == other["name"]
    # another customer is chosen after the pillar
    assert "pillar=" not in week.show(customer=other["id"], pillar=week.task["pillarId"]).html.one("a", rel="next")["href"]

    for field, value in {
        "week": "yesterday", "customer": "x", "person": "1", "pillar": "-", "status": "paid",
    }.items():  # fmt: skip
        page = week.show(**{field: value})
        assert page.status == 422 and page.errors.keys() == {field}, field
    assert week.show(week="9000-01-01").status == 200 and week.show(week="1899-01-01").status == 422
    assert week.show(week="2026-13-01").status == 422
    assert "Bills of earlier weeks are still pending." in week.show(week="2026-03-09").text


def test_a_page_has_sixty_people_and_a_link_to_a_day_leads_to_the_page_of_its_person(week: Week) -> None:
    """A firm of hundreds: a page of all of them would take a second."""
    [bill] = week.bills(week.ada)
    made = week.stint.rows(
        "INSERT INTO users (id, email, name, role) SELECT gen_random_uuid(), n || '@many.example', '!' || n, 'internal_user'"
        " FROM generate_series(100, 189) n RETURNING id"
    )
    first = week.show(customer="")
    assert len(list(form(first).all("th", scope="row"))) == 61, "and the total"
    assert "People 1 to 60 of" in first.text and "Total of these people" in first.text and "!189" not in form(first).text
    second = week.browser.get(form(first).one("a", rel="next")["href"])
    assert "People 61 to" in second.text and name(week.ada) in form(second).text and bill in "".join(seen(second))
    assert week.browser.get(form(second).one("a", rel="prev")["href"]).text == first.text

    shown = week.show(customer="", open=opened(MONDAY, week.ada))
    assert "People 61 to" in shown.text and "1:00 billed" in shown.html.one("section", id="open").text
    htmx = {"HX-Request": "true"}
    part = week.browser.get("/console/approve", headers=htmx, week=MONDAY, open=opened(MONDAY, week.ada))
    assert "<main" not in part.answer.text and "1:00 billed" in part.html.text
    later = week.show(customer="", week="2026-03-09", page=2)
    earlier = next(link["href"] for link in later.html.all("a") if link.text.startswith("Show the first"))
    assert "People 61 to" in later.text and "page=" not in earlier, "it leads to the beginning of that week"
    approved = week.browser.submit(form(second), {"bills": [value for value in seen(second) if bill in value]})
    assert "Approved 1 bill." in approved.text and "People 61 to" in approved.text
    assert "People 61 to" in week.show(customer="", page=99).text, "the last page"
    assert week.show(page=0).status == 422
    week.stint.rows("DELETE FROM users WHERE id = ANY(%s) RETURNING 1", [user_id for (user_id,) in made])


def test_a_day_that_has_not_come_is_not_offered(week: Week) -> None:
    today = date.today()
    later = today + timedelta(days=14)
    week.given.many_bills(week.ada, week.task, 1, first=later.isoformat())
    page = week.show(week=later.isoformat(), open=opened(later.isoformat(), week.ada))
    assert "Nothing of this week is left to approve." in page.text and "This day has not come yet." in page.text


def test_only_admins_approve(week: Week, browsers: Browsers) -> None:
    [bill] = week.bills(week.ada)
    before = week.version(bill)
    fields = {"version": before, "status": "approved"}
    for browser in (browsers.of(week.ada), browsers.person(), browsers.person("customer_admin", week.customer["id"])):
        assert browser.get("/console/approve").status == 403
        assert browser.post("/console/approve", {"bills": [f"{bill}:{before}"]}).status == 403
        assert browser.post(f"/console/approve/{bill}", fields).status == 403
    assert (week.statuses(bill), week.version(bill)) == (["pending"], before)


def test_hours_after_the_approval_are_marked(week: Week) -> None:
    [bill] = week.bills(week.ada)
    week.admin.patch(f"/api/time-bills/{bill}", {"status": "approved"})
    week.bills(week.ada)
    page = week.show(open=opened(MONDAY, week.ada))
    assert cells(page, week.ada)[0] == "2:00 pending ✓ approved overlap more after approval"
    assert sorted("more after approval" in article.text for article in page.html.all("article")) == [False, True]
