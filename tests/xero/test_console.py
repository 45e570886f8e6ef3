"""The console's pages about Xero: mapping a customer, connecting, and what to do about bills that differ or failed."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.console.client import Browser, Browsers, Page, at_once
from tests.console.html import Element
from tests.support.firm_with_xero import Firm
from tests.support.installation import eventually

CONNECTIONS = "/console/connections"
CALLBACK = f"{CONNECTIONS}/xero/callback"


@pytest.fixture
def browsers(firm: Firm) -> Iterator[Browsers]:
    with closing(Browsers(firm.given)) as made:
        yield made


def form(page: Page, action: str) -> Element:
    return page.html.one("form", method="post", action=action)


def flash(page: Page) -> str:
    return page.html.one("div", id="flash").text


def options(page: Page, select_id: str) -> dict[str, str]:
    """Value and label of each option."""
    return {option["value"]: option.text for option in page.html.one("select", id=select_id).all("option")}


def test_a_customer_is_mapped_to_what_xero_has_now(firm: Firm, browsers: Browsers) -> None:
    browser = browsers.person()
    customer = firm.given.customer(firm.admin)
    [pillar] = firm.admin.get(f"/api/customers/{customer['id']}/pillars")["items"]
    path, field = f"/console/customers/{customer['id']}/xero", f"task-{pillar['id']}"
    project, closed = firm.xero.project("Work & more"), firm.xero.project("Old")
    firm.xero.close_project(closed)
    task, fixed = firm.xero.task(project, "Consulting <1>"), firm.xero.task(project, "Fixed")
    firm.xero.change_task(fixed, chargeType="FIXED")

    page = browser.get(path)
    assert options(page, "f-xero_project_id")[project["projectId"]] == "Work & more"
    assert closed["projectId"] not in options(page, "f-xero_project_id")
    page = browser.get(path, project=project["projectId"])
    assert options(page, f"f-{field}")[task["taskId"]] == "Consulting <1>"
    assert "takes no time" in options(page, f"f-{field}")[fixed["taskId"]]

    refused = browser.submit(form(page, path), {field: fixed["taskId"]})
    assert refused.status == 422 and "fixed price" in refused.errors[field], "beside the pillar's field"
    assert refused.html.one("select", id=f"f-{field}").one("option", selected=True)["value"] == fixed["taskId"]
    saved = browser.submit(form(page, path), {field: task["taskId"]})
    assert "Saved the mapping to Xero." in flash(saved)
    assert firm.admin.get(f"/api/customers/{customer['id']}")["xeroProjectId"] == project["projectId"]
    assert firm.admin.get(f"/api/customers/{customer['id']}/pillars")["items"][0]["xeroTaskId"] == task["taskId"]

    # somebody else has mapped it meanwhile
    again = browser.submit(form(page, path), {field: ""})
    assert again.status == 422 and "has changed since you read it" in again.text
    assert browser.get(path, project="x" * 101).status == 422
    for rubbish in ({field: "x" * 101}, {"task-nonsense": "x"}, {"version": "x"}, {"other": "x"}):
        assert browser.submit(form(browser.get(path), path), rubbish).status == 422, rubbish
    unknown = browser.submit(form(browser.get(path, project="unknown"), path))
    assert unknown.status == 422 and "has no project unknown" in unknown.errors["xero_project_id"]


def test_while_xero_is_away_the_mapping_says_so_and_can_be_removed(firm: Firm, browsers: Browsers) -> None:
    browser, path = browsers.person(), f"/console/customers/{firm.customer['id']}/xero"
    project, [pillar] = firm.project, firm.admin.get(f"/api/customers/{firm.customer['id']}/pillars")["items"]
    task = options(browser.get(path), f"f-task-{pillar['id']}")[pillar["xeroTaskId"]]
    firm.xero.inject_fault("status", path="projects", status=503)
    page = browser.get(path)
    assert page.status == 200 and "Xero is not available right now" in page.text
    assert options(page, "f-xero_project_id")[project["projectId"]] == project["name"], "what is stored is shown by its name"
    assert options(page, f"f-task-{pillar['id']}")[pillar["xeroTaskId"]] == task
    stored = browser.get(path.replace("/xero", "/mappings")).html.one("section", aria_labelledby="xero").text
    assert f"Project in Xero {project['name']}" in stored and task in stored
    kept = browser.submit(form(page, path))
    assert kept.status == 200 and "Saved the mapping" in flash(kept)
    removed = browser.submit(form(browser.get(path, project="none"), path))
    assert "Saved the mapping to Xero." in flash(removed)
    assert firm.admin.get(f"/api/customers/{firm.customer['id']}")["xeroProjectId"] is None
    firm.xero.clear_faults()


def box_of(page: Page, bill_id: str) -> Element:
    return next(box for box in page.html.all("input", name="bill") if box["value"].startswith(bill_id))


def boxes(page: Page) -> dict[str, str]:
    """What the box of each bill sends, by the bill's id."""
    return {box["value"].partition("@")[0]: box["value"] for box in page.html.all("input", name="bill")}


def in_xero(firm: Firm, bill: dict[str, Any]) -> int | None:
    """The minutes that the bill shows of its entry in Xero."""
    minutes: int | None = firm.admin.get(f"/api/time-bills/{bill['id']}")["xero"]["inXero"]["minutes"]
    return minutes


def consent(browser: Browser) -> dict[str, Any]:
    """What Xero appends to the redirect URI after a person has given consent."""
    page = browser.submit(form(browser.get(CONNECTIONS), f"{CONNECTIONS}/xero/consent"))
    assert page.title == "Connect Xero"
    link = page.html.one("main").one("a", class_="button main")["href"]
    answer = httpx2.URL(httpx2.get(f"{link}&auto=1").headers["Location"])
    assert answer.path == "/xero/callback"
    return dict(answer.params)


def of_two_at_once(browsers: Browsers, act: Callable[[Browser], Page]) -> list[Page]:
    """The answers to two admins who do the same at the same time: that of the one who did it, and that of the other."""
    admins = [browsers.admin() for _ in range(2)]
    answers = at_once(*(partial(act, admin) for admin in admins))
    assert sorted(page.status for page in answers) == [200, 422], [page.text for page in answers]
    return sorted(answers, key=lambda page: page.status)


def test_xero_is_connected_by_its_consent_page_and_disconnected(firm: Firm, browsers: Browsers) -> None:
    browser, other = browsers.admin(), browsers.admin()
    page = browser.get(CONNECTIONS)
    assert "Connected" in page.text and firm.stint.value("SELECT tenant_name FROM xero_connection") in page.text
    page = browser.submit(form(page, f"{CONNECTIONS}/xero/disconnect"))
    assert "Xero is disconnected" in flash(page) and "Not connected" in page.text

    answer = consent(browser)
    stolen = other.get(CALLBACK, **answer)
    assert "not yours" in flash(stolen) and firm.stint.value("SELECT tenant_id FROM xero_connection") is None
    led = browser.get("/xero/callback", follow=False, **answer, session_state="x")
    assert led.status == 303 and led.location.startswith(f"{CALLBACK}?code=")
    page = browser.get(led.location)
    assert "Xero is connected." in flash(page) and "Disconnect" in page.text
    assert "used already" in flash(browser.get(CALLBACK, **answer)), "a state works once"
    states = firm.stint.value("SELECT count(*) FROM xero_oauth_states")
    for method in ("GET", "HEAD"):
        assert browser.request(method, f"{CONNECTIONS}/xero/consent").status == 405
    assert firm.stint.value("SELECT count(*) FROM xero_oauth_states") == states, "a link of another site begins nothing"
    forged = flash(browser.get(CALLBACK, error="Call +49 30 1234567 for help", state="x"))
    assert "not yours" in forged and "1234567" not in forged and "auth-url" not in forged
    state = consent(browser)["state"]
    assert "it was not allowed on Xero's page" in flash(browser.get(CALLBACK, error="access_denied", state=state))
    assert "used already" in flash(browser.get(CALLBACK, error="access_denied", state=state))
    other_error = flash(browser.get(CALLBACK, error="Call +49 30 1234567", state=consent(browser)["state"]))
    assert "Xero gives no access. Nothing was changed." in other_error and "1234567" not in other_error
    assert "Xero sent no code" in flash(browser.get(CALLBACK))
    wrong = consent(browser) | {"code": "wrong"}
    page = browser.get(CALLBACK, **wrong)
    assert "does not accept this code" in flash(page) and "The last attempt to connect failed." in page.text


def test_only_the_connection_that_was_shown_is_disconnected(firm: Firm, browsers: Browsers) -> None:
    action = f"{CONNECTIONS}/xero/disconnect"
    admins = [browsers.admin() for _ in range(3)]
    forms = [form(admin.get(CONNECTIONS), action) for admin in admins]
    ada, grace, late = admins
    answers = at_once(partial(ada.submit, forms[0]), partial(grace.submit, forms[1]))
    assert sorted(flash(page).partition(" ")[2].partition(".")[0] for page in answers) == [
        "Somebody else has disconnected Xero since this was shown",
        "Xero is disconnected",
    ]
    firm.connect()
    refused = late.submit(forms[2])
    assert "Somebody else has connected Xero again since this was shown. Nothing was changed" in flash(refused)
    assert firm.admin.get("/api/xero/status")["connected"] and "Disconnect" in refused.text
    assert "Nothing was changed." in flash(late.post(action)), "without the connection that was shown"
    assert firm.admin.get("/api/xero/status")["connected"]
    assert "Xero is disconnected" in flash(late.submit(form(refused, action)))
    firm.connect()


def test_bills_that_differ_or_failed_are_sent_again_or_accepted(firm: Firm, browsers: Browsers) -> None:
    browser, path = browsers.admin(), f"{CONNECTIONS}/xero/differences"
    first, second = (firm.wait_for_status(firm.approved(60, f"2026-03-0{day}"), "synced") for day in (2, 3))
    firm.check_only_its_project()
    for bill in (first, second):
        firm.xero.change_entry(bill["xero"]["timeEntryId"], duration=5)
    for bill in (first, second):
        firm.wait_for_status(bill, "differs", seconds=40)
    days: dict[str, Any] = {"start_date": "2026-03-01", "end_date": "2026-03-31"}

    page = browser.get(path, **days)
    assert {first["id"], second["id"]} <= boxes(page).keys() and "Changed in Xero" in page.text and "0:05" in page.text
    assert firm.customer["name"] in page.text
    undecided = browser.get(path, **days, show="undecided")
    assert {first["id"], second["id"]} <= boxes(undecided).keys()
    settle = page.html.one("form", method="post", action=f"{path}?start_date=2026-03-01&end_date=2026-03-31")
    unreasoned = browser.submit(settle, {"bill": boxes(page)[first["id"]], "action": "accept"})
    assert unreasoned.errors.keys() == {"reason"}
    assert "checked" in box_of(unreasoned, first["id"]).attributes, "the choice stays"
    assert "Choose the bills first." in browser.post(path, {"action": "accept", "reason": "agreed"}).text

    # somebody changes it once more, which nobody has seen
    firm.xero.change_entry(first["xero"]["timeEntryId"], duration=20 * 60)
    eventually(lambda: in_xero(firm, first) == 20 * 60, seconds=40)
    both = [boxes(page)[bill["id"]] for bill in (first, second)]
    for action in ("accept", "send"):
        late = browser.post(f"{path}?start_date=2026-03-01", {"bill": both, "action": action, "reason": "seen"})
        assert late.status == 422 and "Of these bills, 1 changed" in late.text
        assert "20:00" in late.text and late.text.count("Has changed since it was shown") == 1, "shown again, as it is now"
        assert ["checked" in box_of(late, bill["id"]).attributes for bill in (first, second)] == [False, True]
        statuses = [firm.admin.get(f"/api/time-bills/{bill['id']}")["xero"]["status"] for bill in (first, second)]
        assert statuses == ["differs", "differs"], "nothing was done"

    agreed = {"bill": boxes(late)[first["id"]], "action": "accept", "reason": "agreed"}
    accepted, refused = of_two_at_once(browsers, lambda admin: admin.post(path, agreed))
    assert "1 bill is accepted as in Xero." in flash(accepted) and "Of these bills, 1 changed" in refused.text
    rows = [row.text for row in browser.get(path, **days).html.all("tr") if firm.customer["name"] in row.text]
    assert [row for row in rows if "0:05" in row] and not [row for row in rows if "20:00" in row], "the accepted is not listed"
    seen = boxes(late)[second["id"]]
    by_mistake = {"bill": seen, "action": "send", "reason": "by mistake"}
    sent, refused = of_two_at_once(browsers, lambda admin: admin.post(path, by_mistake))
    assert "1 bill is sent again" in flash(sent) and "Of these bills, 1 changed" in refused.text
    firm.wait_for_status(second, "synced", seconds=40)
    assert "Of these bills, 1 changed" in browser.post(path, {"bill": seen, "action": "accept", "reason": "twice"}).text
    unknown = f"{uuid4()}@2026-03-02T09:00:00Z"
    assert "There is no such time bill." in flash(browser.post(path, {"bill": unknown, "action": "accept", "reason": "x"}))
    assert browsers.person().post(path, {"bill": seen, "action": "send", "reason": "x"}).status == 403


def test_failed_bills_are_counted_and_sent_again(firm: Firm, browsers: Browsers) -> None:
    task = firm.xero.task(firm.project, "Fixed")
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType="FIXED")
    bill = firm.approved(60, "2026-03-04")
    firm.wait_for_status(bill, "failed")
    firm.xero.change_task(task, chargeType="TIME")
    browser = browsers.admin()
    send = form(browser.get(CONNECTIONS), f"{CONNECTIONS}/xero/send-failed")
    assert f"Send {send.fields()['shown']} failed bill" in send.text
    assert browser.submit(send).errors.keys() == {"reason"}
    shown = {name: value for name, value in send.fields().items() if name != "csrf"} | {"reason": "by the hour now"}
    sent, late = of_two_at_once(browsers, lambda admin: admin.post(send["action"], shown))
    assert "sent again." in flash(sent) and "This has changed since it was shown" in late.text
    firm.wait_for_status(bill, "synced", seconds=40)
    refused = browser.submit(send, {"reason": "twice"})
    assert refused.status == 422 and "This has changed since it was shown" in refused.text
