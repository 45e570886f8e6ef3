"""Each form of each page: what its fields do not take, a session that has ended before it is sent, and another admin who has
sent the same form."""

import re
from collections.abc import Iterator
from itertools import count

import pytest

from api.console.forms import SENT_BY_THE_PAGE
from api.console.sessions import COOKIE
from tests.api.tenants import Tenant, filled, tenant, with_ids
from tests.console.client import Browser, Browsers, Page
from tests.console.html import Element
from tests.console.table import TABLE
from tests.support.given import Given
from tests.support.installation import Installation

MONDAY = "2026-03-02"
SHOWN_ELSEWHERE = {"ids", "end_time", "xero_project_id"}  # hidden fields of one form that the page also shows in another way
LONG = "x" * 2_500
RUBBISH = ("nonsense", LONG, "-1")
GUARDS = {"version", "shown", "bills"}  # fields by which a form is only for what its page has shown
TOLD = "has changed|is not there any more|approved already|No timer is running"


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """Rubbish that a field takes is written."""
    return stint_apart


@pytest.fixture
def browser(given: Given, browsers: Browsers, everything: Tenant) -> Browser:
    """An admin whose timer runs."""
    admin = given.admin()
    admin.post(f"/api/tasks/{everything.ids['task_id']}/start")
    return browsers.of(admin)


@pytest.fixture
def bill(given: Given, everything: Tenant) -> str:
    """A pending bill of MONDAY."""
    return given.many_bills(everything.consultant, given.task(everything.consultant), 1, first=MONDAY)[0]


def opened(everything: Tenant) -> str:
    """Approve with the day of the bill."""
    return f"/console/approve?week={MONDAY}&open={everything.consultant.id}.{MONDAY}"


def pages(everything: Tenant) -> Iterator[str]:
    """The paths of all pages that an admin sees, with their queries."""
    for route, case in TABLE.items():
        method, _, path = route.partition(" ")
        if method == "GET" and case.admin == 200 and not case.is_stream and "{digest}" not in path and not path.endswith("csv"):
            query = "&".join(f"{name}={value}" for name, value in with_ids(case.query, everything.ids).items())
            yield filled(path, everything.ids) + (f"?{query}" if query else "")
    yield opened(everything)


def test_a_form_whose_session_has_ended_is_the_same_after_signing_in(browser: Browser, everything: Tenant, bill: str) -> None:
    session, texts, sent = browser.cookies[COOKIE], 0, set[str]()
    for path in pages(everything):
        for form in browser.get(path).html.all("form", method="post"):
            typed = [name for element in form.all() if (name := typed_into(element))]
            values = with_all_values(form) | {name: [f"{name} <b>&amp; =\nhere"] for name in typed}
            browser.cookies[COOKIE] = "A" * 43
            asked = browser.submit(form, values)
            browser.cookies[COOKIE] = session
            if form["action"] == "/console/sign-out":
                continue
            assert (asked.status, asked.title) == (401, "Sign in"), form["action"]
            values.pop("csrf")
            if not values:
                assert "Nothing was changed" in asked.text, "a button alone is quickly pressed again"
                continue
            page = browser.post("/console/sign-in/kept", with_all_values(asked.html.one("form")))
            kept = page.html.one("form", class_="action", action=form["action"])
            assert with_all_values(kept) == values | {"csrf": [browser.csrf]}, form["action"]
            assert not typed or f"{typed[0]} <b>&amp; = here" in page.text, "people see what they have typed"
            texts, sent = texts + len(typed), sent | {form["action"].partition("?")[0]}
    assert len(sent) > 20 and texts > 20, "the pages have their forms"


def test_of_two_admins_who_send_the_same_form_the_second_is_told_what_has_changed(given: Given, browsers: Browsers) -> None:
    admins, refused = [browsers.admin(), browsers.admin()], set[str]()
    own = tenant(given)  # the other tests need theirs
    consultant, task = own.consultant, given.task(own.consultant)
    given.many_bills(consultant, task, 1, first=MONDAY)
    entry = given.entry(consultant, task, start="2026-03-03T09:00:00Z")
    instead = {"task_id": task["id"], "channel_id": "C0123456789", "email": f"{given.new_id()}@two.example"}
    timer = f"/console/hours?person={consultant.id}"
    for path in (timer, f"/console/hours/entries/{entry['id']}?person={consultant.id}", *pages(own)):
        for n in count():
            if path == timer:
                consultant.http.post(f"/api/tasks/{task['id']}/start")  # the form before has stopped it
            answers, shown = [], [list(forms_of(admin.get(path)))[n:] for admin in admins]
            if not shown[0]:
                break
            for admin, (form, *_), word in zip(admins, shown, ("first", "second"), strict=True):
                values = {name: instead[name] for name in form.fields() if name in instead and not form.fields()[name]}
                typed = {name: f"{word} {name}" for name in texts_of(form) if name not in instead}
                answers.append(admin.submit(form, with_all_values(form) | values | typed, follow=False))
            (first, second), form = answers, shown[0][0]
            action = form["action"].partition("?")[0]
            assert max(first.status, second.status) < 500, action
            if first.status == 303 and GUARDS & form.fields().keys():
                assert second.status in (404, 409, 422), action
                assert re.search(TOLD, second.text), f"{action}: {second.text}"
                if typed and second.status != 404 and "version" in form.fields():
                    assert any(f"first {name}" in second.text for name in typed), f"{action}: {second.text}"
                refused.add(action)
    assert len(refused) > 15, refused


def forms_of(page: Page) -> Iterator[Element]:
    """The forms that write, without that which signs out."""
    return (form for form in page.html.all("form", method="post") if form["action"] != "/console/sign-out")


def texts_of(form: Element) -> list[str]:
    """The names of the fields with words that people have typed or can type."""
    named = {element["name"]: element for element in form.all(name=True) if typed_into(element)}
    return [name for name, value in form.fields().items() if name in named and not re.match(r"\d|{", value)]


def typed_into(element: Element) -> str:
    """The name of the field if people type text into it."""
    is_text = element.tag == "textarea" or (element.tag == "input" and element.attributes.get("type", "text") == "text")
    return element.attributes.get("name", "") if is_text else ""


def with_all_values(form: Element) -> dict[str, list[str]]:
    """What a browser would send of this form, with all values of a name."""
    found: dict[str, list[str]] = {}
    for name, value in form.pairs():
        found.setdefault(name, []).append(value)
    return found


def unplaced(page: Page) -> list[str]:
    """What the page does not say where it has to be corrected."""
    html, found = page.html, []
    ids = {element["id"]: element for element in html.all(id=True)}
    summaries = list(html.all("div", data_error_summary=True))
    for link in (link for summary in summaries for link in summary.all("a") if link["href"].startswith("#")):
        target = ids.get(link["href"][1:])
        if target is None or target.attributes.get("type") == "hidden":
            found.append(f"{link['href']} leads nowhere: {link.text}")
        elif link["href"].removeprefix("#f-") not in page.errors:
            found.append(f"nothing is beside {link['href']}: {link.text}")
    if not page.errors and not summaries and page.title != "Something has to be corrected":
        found.append(f"nothing is named: {page.text[:200]}")
    return found


def hidden(form: Element) -> list[str]:
    return [field["name"] for field in form.all("input", type="hidden") if field["name"] != "csrf"]


def test_each_refused_field_is_named_where_people_can_correct_it(browser: Browser, everything: Tenant, bill: str) -> None:
    refused, found = set(), []
    for path in pages(everything):
        shown = browser.get(path)
        assert shown.status == 200, path
        for form in shown.html.all("form"):
            names = [name for name in form.fields() if name != "csrf"]
            for name in sorted(names, key=hidden(form).__contains__, reverse=True):  # before something is written
                for rubbish in RUBBISH if name != "reason" else [LONG]:  # any short reason acts on a dead letter
                    page = browser.submit(form, {name: rubbish})
                    where = f"{form['action']} {name}={rubbish[:9]}"
                    assert page.status in (200, 409, 422), where  # 409: the bill was rejected just before
                    if page.status == 422:
                        refused.add((form["action"].partition("?")[0], name))
                        found += [f"{where}: {problem}" for problem in unplaced(page)]
                        if name in hidden(form) and form.has(method="post") and name not in SHOWN_ELSEWHERE:
                            assert SENT_BY_THE_PAGE in page.text, where
    assert not found, "\n".join(found)
    assert len(refused) > 50, "the pages have their forms"


def test_a_form_that_the_page_has_no_more_says_why(
    given: Given, browsers: Browsers, browser: Browser, everything: Tenant, bill: str
) -> None:
    given.admin().patch(f"/api/time-bills/{bill}", {"status": "approved"})
    late = browser.post(opened(everything).replace("approve?", f"approve/{bill}?"), {"version": "1", "status": "rejected"})
    assert late.status == 409 or "not pending any more" in late.text
    long = {"version": "1", "status": "rejected", "rejection_note": LONG}
    late = browser.post(opened(everything).replace("approve?", f"approve/{bill}?"), long)
    assert late.status == 422 and "not pending any more" in late.text and not unplaced(late)
    sent = {"ids": given.new_id(), "reason": "", "shown": "1", "shown_at": "2026-03-02T09:00:00Z"}
    late = browser.post("/console/dead-letters/discard", sent)
    assert late.status == 422 and "None of these is left" in late.text and not unplaced(late)
    late = browser.post("/console/connections/xero/send-failed", {"reason": "", "shown": "1", "shown_at": MONDAY})
    assert late.status == 422 and "no bill is failed any more" in late.text and not unplaced(late)
    late = browser.post("/console/connections/xero/differences", {"action": "burn"})
    assert late.status == 422 and "Choose the bills first." in late.text and not unplaced(late)


def test_an_address_with_rubbish_is_named_without_a_field(browsers: Browsers, everything: Tenant) -> None:
    for who, path in (
        (browsers.person(), "/console/hours?person=x"),
        (browsers.person(), "/console/hours?week=x"),
        (browsers.admin(), "/console/approve?page=x"),
        (browsers.admin(), "/console/reports?pillar_id=x"),
        (browsers.admin(), "/console/dead-letters/list?cursor=x"),
        (browsers.admin(), "/console/dead-letters/replay?ids=x"),
    ):
        page = who.get(path)
        name = path.partition("?")[2].partition("=")[0]
        assert page.status == 422 and name in page.text and not unplaced(page), path


def test_a_default_pillar_has_no_box_that_could_be_wrong(browser: Browser, everything: Tenant) -> None:
    overview = browser.get(f"/console/customers/{everything.ids['customer_id']}")
    [path] = [link["href"] for link in overview.html.all("a") if link.text == "General Support"]
    page = browser.post(path, {"name": "General Support", "active": "x", "version": "1"})
    assert page.status == 422 and "active must be true or false" in page.text and not unplaced(page)
