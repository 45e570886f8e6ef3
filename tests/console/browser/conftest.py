"""Chromium, and people who use the console in it. All modules of this folder share one Chromium and one demo firm: they run in
one worker of pytest, one after another (tests/support/schedule.py)."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ops.errors import CommandError
from tests.console.browser.demo import DemoFirm, running_demo
from tests.console.browser.visitors import Visitors
from tests.support import chromium, servers
from tests.support.durations import scope_of
from tests.support.given import Given
from tests.support.installation import emptied

# Tests visit only this machine, also if a page has an address of another one. Without a sandbox, which root cannot have.
_ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]

expect.set_options(timeout=20_000)  # a busy machine may stall for seconds


# What the folder shares is closed after its last test, since while Playwright runs, other tests of this process could not use
# asyncio.run.
_shared = ExitStack()
_browsers: list[Browser] = []
_firms: list[DemoFirm] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    try:
        return (yield)
    finally:
        if nextitem is None or scope_of(nextitem.nodeid) != scope_of(item.nodeid):
            _browsers.clear()
            _firms.clear()
            _shared.close()


@pytest.fixture
def browser() -> Browser:
    """One Chromium for the tests of this folder."""
    try:
        found = chromium.find_or_download()
    except CommandError as error:
        pytest.skip(f"without a browser: {error}")
    if not _browsers:
        playwright = _shared.enter_context(sync_playwright())
        launched = playwright.chromium.launch(
            executable_path=found.program, env=dict(found.environment), args=_ARGUMENTS, chromium_sandbox=False
        )
        _shared.callback(launched.close)
        _browsers.append(launched)
    return _browsers[0]


@pytest.fixture
def visitors(browser: Browser, given: Given) -> Iterator[Visitors]:
    """People in this browser. After the test nothing may have been wrong on any of their pages."""
    visitors = Visitors(browser, given)
    yield visitors
    visitors.leave()


@pytest.fixture
def demo_firm(database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> DemoFirm:
    """A firm of twenty on a Monday morning, for the tests of this folder. None of them changes how many people it has, or
    relies on what another one left undone."""
    if not _firms:
        amqp_url = emptied(servers.addresses().amqp_urls[f"{worker_id}-own"])  # no test of this folder has another use for it
        _firms.append(_shared.enter_context(running_demo(database_url, amqp_url, tmp_path_factory.mktemp("demo"))))
    return _firms[0]
