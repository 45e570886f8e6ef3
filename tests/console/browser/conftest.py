"""Chromium, and people who use the console in it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ops.errors import CommandError
from tests.console.browser.demo import DemoFirm, running_demo
from tests.console.browser.visitors import Visitors
from tests.support import chromium
from tests.support.given import Given

# Tests visit only this machine, also if a page has an address of another one. Without a sandbox, which root cannot have.
_ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]

expect.set_options(timeout=20_000)  # a busy machine may stall for seconds


@pytest.fixture(scope="module")  # not longer: while Playwright runs, other tests of this process could not use asyncio.run
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module."""
    try:
        found = chromium.find_or_download()
    except CommandError as error:
        pytest.skip(f"without a browser: {error}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.program, env=dict(found.environment), args=_ARGUMENTS, chromium_sandbox=False
        )
        yield browser
        browser.close()


@pytest.fixture
def visitors(browser: Browser, given: Given) -> Iterator[Visitors]:
    """People in this browser. After the test nothing may have been wrong on any of their pages."""
    visitors = Visitors(browser, given)
    yield visitors
    visitors.leave()


@pytest.fixture(scope="module")
def demo_firm(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoFirm]:
    """A firm of twenty on a Monday morning, for one module."""
    with running_demo(database_url, amqp_url_apart, tmp_path_factory.mktemp("demo")) as firm:
        yield firm
