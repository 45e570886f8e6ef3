"""The console's pages about Xero: mapping a customer."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.console.client import Browsers, Page
from tests.console.html import Element
from tests.support.firm_with_xero import Firm


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
    assert browser.get(path, project="x" * 101).status == 200
    for rubbish in ({field: "x" * 101}, {"task-nonsense": "x"}, {"version": "x"}, {"other": "x"}):
        assert browser.submit(form(browser.get(path), path), rubbish).status == 422, rubbish
    unknown = browser.submit(form(browser.get(path, project="unknown"), path))
    assert unknown.status == 422 and "has no project unknown" in unknown.errors["xero_project_id"]


def test_while_xero_is_away_the_mapping_says_so_and_can_be_removed(firm: Firm, browsers: Browsers) -> None:
    browser, path = browsers.person(), f"/console/customers/{firm.customer['id']}/xero"
    firm.xero.inject_fault("status", path="projects", status=503)
    page = browser.get(path)
    assert page.status == 200 and "Xero is not available right now" in page.text
    assert firm.project["projectId"] in options(page, "f-xero_project_id"), "what is stored is still shown"
    kept = browser.submit(form(page, path))
    assert kept.status == 200 and "Saved the mapping" in flash(kept)
    removed = browser.submit(form(browser.get(path, project="none"), path))
    assert "Saved the mapping to Xero." in flash(removed)
    assert firm.admin.get(f"/api/customers/{firm.customer['id']}")["xeroProjectId"] is None
    firm.xero.clear_faults()
