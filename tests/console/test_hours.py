"""Hours: a person's own week, and somebody else's for an admin."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.console.client import Browser, Browsers, Page
from tests.console.html import Element
from tests.support.apis import Another
from tests.support.given import Given, Json
from tests.support.installation import eventually

MONDAY = "2026-03-02"


class Own:
    """A consultant with a task of their own, at their page."""

    def __init__(self, given: Given, browsers: Browsers) -> None:
        self.given, self.browsers, self.person = given, browsers, given.person()
        self.customer = given.customer(self.person)
        self.task = self.new_task("Migrate the mail server")
        self.browser = browsers.of(self.person)

    def new_task(self, title: str) -> Json:
        return self.given.task(self.person, self.customer, title=title)

    def show(self, browser: Browser | None = None, **query: Any) -> Page:
        return (browser or self.browser).get("/console/hours", **query)

    def timer(self) -> Json | None:
        answer = self.person.http.get("/api/active-timers/me")
        found: Json | None = answer.json() if answer.status_code == 200 else None
        return found

    def entries(self) -> list[Json]:
        items: list[Json] = self.person.get("/api/time-entries", userId=self.person.id)["items"]
        return items

    def logged(self, **more: Any) -> Json:
        return self.given.logged(self.person, self.task, **more)

    def log_form(self, **fields: Any) -> dict[str, Any]:
        form = {"id": self.given.new_id(), "task_id": self.task["id"], "start_time": f"{MONDAY}T09:00", "notes": ""}
        return form | fields

    def path(self, entry: Json, more: str = "") -> str:
        return f"/console/hours/entries/{entry['id']}{more}"


@pytest.fixture
def visitor(given: Given, browsers: Browsers) -> Own:
    return Own(given, browsers)


def work_form(page: Page) -> Element:
    return next(form for form in page.html.all("form") if form["action"].startswith("/console/hours/start"))


def stop_form(page: Page) -> Element:
    return next(form for form in page.html.all("form") if form["action"].startswith("/console/hours/stop"))


def discard_form(page: Page) -> Element:
    return next(form for form in page.html.all("form") if form["action"].startswith("/console/hours/discard"))


def timer_form(page: Page) -> Element:
    return next(form for form in page.html.all("form") if form["action"].startswith("/console/hours/timer"))


def test_start_switch_and_stop(visitor: Own) -> None:
    other = visitor.new_task("Write the report")
    page = visitor.show()
    assert page.title == "Hours" and "No timer is running." in page.text
    page = visitor.browser.submit(work_form(page), {"task_id": visitor.task["id"], "notes": "Logs"})
    assert page.status == 200 and "Started." in page.text and "Migrate the mail server" in page.text
    timer = visitor.timer()
    assert timer is not None and (timer["taskId"], timer["notes"]) == (visitor.task["id"], "Logs")
    again = visitor.browser.submit(work_form(page), {"task_id": visitor.task["id"]})
    assert "This timer is running already." in again.text and visitor.timer() == timer

    old_stop = stop_form(page)
    page = visitor.browser.submit(work_form(page), {"task_id": other["id"], "notes": ""})
    assert "The timer before it was stopped" in page.text and "Switch to this task" in page.text
    refused = visitor.browser.submit(old_stop)
    assert "Another timer is running" in refused.text or refused.status == 200, "that timer was stopped by the switch"
    running = visitor.timer()
    assert running is not None and running["taskId"] == other["id"], "the timer that runs now is not stopped"

    page = visitor.browser.submit(stop_form(visitor.show()))
    assert page.status == 200 and "Stopped: 0:00." in page.text and visitor.timer() is None
    visitor.given.settled()
    assert {entry["taskId"] for entry in visitor.entries()} == {visitor.task["id"], other["id"]}


def test_a_forgotten_timer_is_stopped_at_the_time_when_the_work_ended(visitor: Own) -> None:
    visitor.person.post(f"/api/tasks/{visitor.task['id']}/start")
    start = (datetime.now(UTC) - timedelta(hours=20)).replace(microsecond=0, second=0)
    visitor.person.put(
        "/api/active-timers/me", {"taskId": visitor.task["id"], "startTime": start.strftime("%Y-%m-%dT%H:%M:%SZ")}
    )
    page = visitor.show()
    assert "This timer has run for 20:0" in page.text and "If it was forgotten" in page.text
    for end, words in {
        "nonsense": "day and a time", "5": "day and a time", "2026-03-02T09:30Z": "day and a time",
        f"{start - timedelta(hours=1):%Y-%m-%dT%H:%M}": "before it starts",
        f"{start + timedelta(days=3):%Y-%m-%dT%H:%M}": "in the future",
    }.items():  # fmt: skip
        refused = visitor.browser.submit(stop_form(page), {"end_time": end})
        assert refused.status == 422 and words in refused.errors["end_time"], end
    page = visitor.browser.submit(stop_form(page), {"end_time": f"{start + timedelta(hours=7, minutes=30):%Y-%m-%dT%H:%M}"})
    assert "Stopped: 7:30." in page.text
    visitor.given.settled()
    assert [entry["duration"] for entry in visitor.entries()] == [27_000]


def test_the_start_and_the_notes_of_a_running_timer_are_changed(visitor: Own) -> None:
    visitor.person.post(f"/api/tasks/{visitor.task['id']}/start")
    page = visitor.show()
    form = timer_form(page)
    before = visitor.timer()
    assert before is not None
    assert "Saved." in visitor.browser.submit(form, {"notes": "Reading"}).text
    timer = visitor.timer()
    assert timer is not None and (timer["notes"], timer["startTime"]) == ("Reading", before["startTime"])
    refused = visitor.browser.submit(form, {"notes": "Writing"})
    assert refused.status == 422 and "has changed since you read it" in refused.text
    timer = visitor.timer()
    assert timer is not None and timer["notes"] == "Reading"


def test_only_the_timer_that_was_shown_is_discarded_and_it_leaves_nothing(visitor: Own, browsers: Browsers) -> None:
    visitor.person.post(f"/api/tasks/{visitor.task['id']}/start")
    admin = browsers.admin()
    page = visitor.show(admin, person=visitor.person.id)
    assert "Discard the timer on Migrate the mail server?" in discard_form(page).one("button")["data-confirm"]
    visitor.browser.submit(timer_form(visitor.show()), {"notes": "Reading"})
    refused = admin.submit(discard_form(page))
    assert refused.status == 422 and "has changed since you read it" in refused.text and visitor.timer() is not None

    shown = discard_form(visitor.show())
    visitor.browser.submit(work_form(visitor.show()), {"task_id": visitor.new_task("Write the report")["id"]})
    refused = visitor.browser.submit(shown)
    assert refused.status == 422 and "Another timer is running" in refused.text and "Write the report" in refused.text
    visitor.given.settled()
    recorded = visitor.entries()
    page = visitor.browser.submit(discard_form(visitor.show()))
    assert "Discarded. Nothing was recorded." in page.text and visitor.timer() is None
    visitor.given.settled()
    assert visitor.entries() == recorded
    assert "No timer is running." in visitor.browser.submit(shown).text


def test_hours_are_logged_once_with_an_end_or_a_duration(visitor: Own) -> None:
    fields = visitor.log_form(end_time=f"{MONDAY}T10:30", notes="Logs")
    page = visitor.browser.post("/console/hours/log", fields)
    assert page.status == 200 and "Logged 1:30." in page.text and "09:00 – 10:30" in page.text and "Logs" in page.text
    visitor.browser.post("/console/hours/log", fields)
    assert len(visitor.entries()) == 1, "the same form again"
    visitor.browser.post("/console/hours/log", visitor.log_form(start_time=f"{MONDAY}T13:00", duration="1:15"))
    visitor.browser.post("/console/hours/log", visitor.log_form(start_time=f"{MONDAY}T15:00", duration="0,5 h"))
    assert sorted(entry["duration"] for entry in visitor.entries()) == [1800, 4500, 5400]

    for wrong, field in (
        ({"task_id": ""}, "task_id"), ({"task_id": visitor.given.new_id()}, "task_id"), ({"task_id": "x"}, "task_id"),
        ({"start_time": ""}, "start_time"), ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "1999-12-31T23:00"}, "start_time"), ({"start_time": "2999-01-01T09:00"}, "start_time"),
        ({"duration": "", "end_time": f"{MONDAY}T08:00"}, "end_time"), ({"duration": "soon"}, "duration"),
        ({"duration": "900h"}, "duration"), ({"start_time": "1900-01-01T00:00"}, "start_time"),
        ({"notes": "x" * 10_001}, "notes"), ({"id": "1"}, "id"),
    ):  # fmt: skip
        page = visitor.browser.post(
            "/console/hours/log", visitor.log_form(start_time=f"{MONDAY}T20:00", duration="1:00", end_time="") | wrong
        )
        assert page.status == 422 and "Nothing was saved yet" in page.text, wrong
        assert field in page.errors or field == "id", (wrong, page.errors)
        assert "or null" not in page.text and "whole number" not in page.text, wrong
        assert "/api/" not in page.text and "/docs" not in page.text
    both = visitor.log_form(start_time=f"{MONDAY}T20:00", end_time=f"{MONDAY}T22:00", duration="1:00")
    assert "Start, end and hours do not agree" in visitor.browser.post("/console/hours/log", both).text
    overlap = visitor.log_form(start_time=f"{MONDAY}T09:30", duration="1:00")
    page = visitor.browser.post("/console/hours/log", overlap)
    assert page.status == 422 and "Tick “Accept an overlap”" in page.text and "allowOverlap" not in page.text
    assert len(visitor.entries()) == 3
    assert "Logged" in visitor.browser.post("/console/hours/log", overlap | {"allow_overlap": "on"}).text


def test_a_time_that_clocks_skip_or_that_is_long_past_is_refused_beside_its_field(visitor: Own, another: Another) -> None:
    paris = another(STINT_TIMEZONE="Europe/Paris")
    entry = visitor.logged(start="2026-03-28T09:00:00Z")
    with closing(Browser(paris)) as browser:
        browser.sign_in_as(visitor.person)
        skipped = visitor.log_form(start_time="2026-03-29T02:30", duration="1:00")
        page = browser.post("/console/hours/log", skipped)
        assert page.status == 422 and "There is no 02:30 on this day" in page.errors["start_time"]
        assert page.html.one("input", id="f-start_time")["value"] == "2026-03-29T02:30", "what was typed stays"
        page = browser.post("/console/hours/log", visitor.log_form(start_time="2026-03-29T01:30", end_time="2026-03-29T02:30"))
        assert page.status == 422 and "Type 03:30" in page.errors["end_time"]
        forms = browser.get(visitor.path(entry)).html.all("form")
        shown = next(form for form in forms if form["action"].startswith(visitor.path(entry) + "?")).fields()
        for field in ("start_time", "end_time"):
            page = browser.post(visitor.path(entry), shown | {field: "2026-03-29T02:30"})
            assert page.status == 422 and "There is no 02:30" in page.errors[field]
        visitor.person.post(f"/api/tasks/{visitor.task['id']}/start")
        for form in (stop_form, timer_form):
            found = form(visitor.show(browser))
            field = "end_time" if form is stop_form else "start_time"
            page = browser.submit(found, {field: "2026-03-29T02:30"})
            assert page.status == 422 and "There is no 02:30" in page.text
        # its offset from UTC had seconds then
        page = browser.post("/console/hours/log", visitor.log_form(start_time="1905-01-01T09:00", duration="1:00"))
        assert page.status == 422 and "start_time" in page.errors
    assert [found["id"] for found in visitor.entries()] == [entry["id"]]


def test_an_entry_is_changed_annotated_and_deleted_unless_it_has_changed_since(visitor: Own) -> None:
    entry, other = visitor.logged(), visitor.new_task("Write the report")
    page = visitor.browser.get(visitor.path(entry))
    form = next(form for form in page.html.all("form") if form["action"].startswith(visitor.path(entry) + "?"))
    assert form.fields()["start_time"] == f"{MONDAY}T09:00" and form.fields()["task_id"] == visitor.task["id"]
    changed = {"end_time": f"{MONDAY}T11:00", "notes": "Longer", "task_id": other["id"]}
    page = visitor.browser.submit(form, changed)
    assert "Saved." in page.text and "Write the report" in page.text
    found = visitor.person.get(f"/api/time-entries/{entry['id']}")
    assert (found["duration"], found["notes"], found["taskId"]) == (7200, "Longer", other["id"])

    refused = visitor.browser.submit(form, {"notes": "Late"})
    assert refused.status == 422 and "has changed since you read it" in refused.text and "It is there now" in refused.text
    assert visitor.person.get(f"/api/time-entries/{entry['id']}")["notes"] == "Longer"
    delete = visitor.path(entry, "/delete")
    stale = visitor.browser.post(delete, {"version": entry["version"]})
    assert stale.status == 422 and visitor.person.get(f"/api/time-entries/{entry['id']}")
    for wrong in ({"start_time": "x"}, {"end_time": ""}, {"version": "x"}, {"version": ""}, {"task_id": "x"},
                  {"task_id": visitor.given.new_id()}, {"end_time": f"{MONDAY}T08:00"}, {"notes": "x" * 10_001}):  # fmt: skip
        assert visitor.browser.post(visitor.path(entry), form.fields() | {"version": found["version"]} | wrong).status == 422, (
            wrong
        )
    assert "Deleted." in visitor.browser.post(delete, {"version": found["version"]}).text
    assert visitor.entries() == [] and visitor.browser.get(visitor.path(entry)).status == 404


def test_what_is_locked_and_what_was_rejected_is_said_with_the_reason(visitor: Own) -> None:
    admin = visitor.given.admin()
    locked = visitor.given.bill(visitor.person, visitor.task)
    rejected = visitor.given.bill(visitor.person, visitor.new_task("Write the report"), start="2026-03-03T09:00:00Z")
    admin.patch(f"/api/time-bills/{locked['id']}", {"status": "approved"})
    admin.patch(f"/api/time-bills/{rejected['id']}", {"status": "rejected", "rejectionNote": "Which report?"})
    text = visitor.show(week=MONDAY).html.one("section", id="week").text
    assert "locked: its bill is approved; an admin can reopen it" in text
    assert "Which report?" in text and "2:00 of 40:00 planned" in text
    entry = visitor.person.get("/api/time-entries", timeBillId=locked["id"])["items"][0]
    page = visitor.browser.get(visitor.path(entry))
    assert "This entry is locked" in page.text and not list(page.html.one("main").all("form"))
    fields = {"version": entry["version"], "task_id": visitor.task["id"], "start_time": f"{MONDAY}T09:00",
              "end_time": f"{MONDAY}T12:00"}  # fmt: skip
    refused = visitor.browser.post(visitor.path(entry), fields)
    assert refused.status == 422 and "on an approved time bill" in refused.text
    assert visitor.browser.post(visitor.path(entry, "/delete"), {"version": entry["version"]}).status == 422
    assert visitor.person.get(f"/api/time-entries/{entry['id']}") == entry


def test_a_stop_whose_entry_does_not_exist_yet_is_shown_as_being_recorded(visitor: Own) -> None:
    entry = visitor.given.stopped(visitor.person, visitor.task)["entry"]
    [(backup,)] = visitor.given.stint.rows(
        "UPDATE stops SET entry_id = gen_random_uuid() WHERE entry_id = %s RETURNING entry_id", entry["id"]
    )
    page = visitor.show()
    week = page.html.one("section", id="week")
    assert "being recorded" in week.text and week["hx-trigger"] == "load delay:1s", backup
    visitor.given.stint.rows("UPDATE stops SET entry_id = %s WHERE entry_id = %s RETURNING 1", entry["id"], backup)
    assert "hx-trigger" not in visitor.show().html.one("section", id="week").attributes


def test_tasks_are_found_by_words_of_the_task_and_its_customer(visitor: Own) -> None:
    def options(page: Page) -> list[str]:
        return [option.text for option in page.html.one("select", id="f-task_id").all("option")]

    mine = f"Migrate the mail server · {visitor.customer['name']}"
    assert options(visitor.show())[0] == mine
    assert options(visitor.show(search=f"mail {visitor.customer['name'][-6:]}")) == [mine]
    assert options(visitor.show(search=visitor.given.new_id())) == ["No open task has these words"]
    assert options(visitor.show(visitor.browsers.admin())) == ["Find a task first"]
    part = visitor.browser.get(
        "/console/hours/tasks", search=f"server {visitor.customer['name']}", headers={"HX-Request": "true"}
    )
    assert "<html" not in part.answer.text and mine in part.answer.text.replace("&#39;", "'")
    assert visitor.show(search="%' OR 1=1 --" * 50).status == 200


def test_an_admin_works_on_somebodys_behalf_and_the_page_says_so(visitor: Own) -> None:
    boss = visitor.given.admin()
    admin = visitor.browsers.of(boss)
    entry = visitor.logged()
    page = visitor.show(admin, week=MONDAY, person=visitor.person.id)
    assert "These are the hours of" in page.text and visitor.person.email.partition("@")[0] in page.text
    assert "These are the hours of" not in visitor.show(admin, person=boss.id).text
    page = admin.submit(work_form(page), {"task_id": visitor.task["id"], "notes": "for you"})
    timer = visitor.timer()
    assert timer is not None and timer["notes"] == "for you" and f"person={visitor.person.id}" in str(page.answer.url)
    page = admin.submit(stop_form(page))
    eventually(lambda: visitor.timer() is None)
    target = f"?person={visitor.person.id}"
    admin.post(f"/console/hours/log{target}", visitor.log_form(start_time="2026-03-04T09:00", duration="1:00"))
    assert "on their behalf" in admin.get(visitor.path(entry)).text
    admin.post(
        visitor.path(entry, "/delete") + target, {"version": visitor.person.get(f"/api/time-entries/{entry['id']}")["version"]}
    )
    visitor.given.settled()
    assert sorted(found["startTime"][:10] for found in visitor.entries())[0] == "2026-03-04" and len(visitor.entries()) == 2


def test_nobody_else_sees_or_changes_a_persons_hours_here(visitor: Own) -> None:
    entry = visitor.logged()
    visitor.person.post(f"/api/tasks/{visitor.task['id']}/start")
    timer = visitor.timer()
    assert timer is not None
    colleague = visitor.browsers.of(visitor.given.person())
    customers = visitor.browsers.of(visitor.given.person("customer_admin", visitor.customer["id"]))
    person = f"?person={visitor.person.id}"
    for browser in (colleague, customers):
        assert visitor.show(browser, person=visitor.person.id).status == 403
        assert browser.get(visitor.path(entry)).status == 403
        for path, fields in {
            f"/console/hours/start{person}": {"task_id": visitor.task["id"]},
            f"/console/hours/stop{person}": {"timer_id": timer["id"]},
            f"/console/hours/timer{person}": {"task_id": visitor.task["id"], "start_time": f"{MONDAY}T09:00", "version": 1},
            f"/console/hours/log{person}": visitor.log_form(duration="1:00"),
            visitor.path(entry): {"task_id": visitor.task["id"], "start_time": f"{MONDAY}T08:00", "end_time": f"{MONDAY}T10:00",
                              "version": 1},
            visitor.path(entry, "/delete"): {"version": entry["version"]},
        }.items():  # fmt: skip
            assert browser.post(path, fields).status == 403, path
    mine = colleague.post("/console/hours/stop", {"timer_id": timer["id"]})
    assert mine.status == 422 and "This timer is not running." in mine.text
    admin = visitor.browsers.admin()
    for nobody in (visitor.given.new_id(), visitor.given.person("customer_user", visitor.customer["id"]).id):
        assert visitor.show(admin, person=nobody).status == 404
    assert visitor.show(admin, person="x").status == 422 and visitor.show(admin, week="x").status == 422
    assert visitor.timer() == timer and len(visitor.entries()) == 1
