"""An admin connects Xero and maps a customer, in a browser that goes to Xero's page and comes back."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.browser.visitors import Visitors
from tests.support.given import Given
from tests.support.installation import Installation, eventually, new_database
from tests.support.xero_sandbox import XeroSandbox, running_xero

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def xero() -> Iterator[XeroSandbox]:
    """A stand-in Xero without limits."""
    with running_xero() as sandbox:
        sandbox.disable_limits()
        yield sandbox


@pytest.fixture(scope="module")
def stint(
    xero: XeroSandbox, database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation to whose console this Xero leads back."""
    made = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("xero"), **xero.environment)
    made.environment |= {"PUBLIC_URL": made.url, "XERO_REDIRECT_URI": f"{made.url}/console/connections/xero/callback"}
    try:
        yield made.start().wait_until_ready()
    finally:
        made.stop()


def test_xero_is_connected_a_customer_is_mapped_and_an_approved_bill_arrives(
    visitors: Visitors, given: Given, stint: Installation, xero: XeroSandbox
) -> None:
    project = xero.project("Acme, support")
    xero.task(project, "Consulting")
    by, admin = given.person(), given.admin()
    xero.user(by.email)
    customer = given.customer(admin, name="Acme Ltd")
    [bill] = given.many_bills(by, given.task(by, customer), 1, first="2026-03-02")
    admin.patch(f"/api/time-bills/{bill}", {"status": "approved"})

    visitor = visitors.of(admin)
    visitor.guard.allow_origin(xero.url)
    visitor.guard.expect_status(404)  # the stand-in has no icon
    page = visitor.open("/console/connections")
    page.get_by_role("button", name="Connect Xero").click()
    visitor.inspect()
    page.get_by_role("link", name="Go to Xero").click()
    page.wait_for_url(f"{xero.url}/**")
    page.get_by_role("link").first.click()
    expect(page.get_by_text("Xero is connected.")).to_be_visible()
    visitor.inspect()

    visitor.open(f"/console/customers/{customer['id']}/xero")
    page.get_by_label("Project in Xero").select_option("Acme, support")
    task = page.get_by_label("Task for the pillar")
    expect(task).to_be_visible()
    task.select_option("Consulting")
    visitor.inspect()
    page.get_by_role("button", name="Save the mapping").click()
    expect(page.get_by_role("status").first).to_contain_text("Done:")

    eventually(lambda: stint.value("SELECT xero_status FROM time_bills WHERE id = %s", bill) == "synced", seconds=60)
    assert [entry["duration"] for entry in xero.entries()] == [60]
