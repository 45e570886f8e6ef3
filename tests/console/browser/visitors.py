"""People who use the console in a browser: each with a window and cookies of their own."""

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from tests.console.browser.guard import Guard
from tests.console.browser.inspection import inspect
from tests.support.given import Given, Person

# A day before its month, and no words of another language.
_LOCALE = "en-GB"


@dataclass(frozen=True)
class Visitor:
    """A person, or somebody who is not signed in, and the window with the page that they look at."""

    context: BrowserContext
    page: Page
    guard: Guard
    origin: str
    person: Person | None = None

    def open(self, path: str, *, status: int = 200) -> Page:
        """Opens that page of Stint. Fails if its status, after redirects, is another one."""
        if status >= 400:
            self.guard.expect_status(status)
        answer = self.page.goto(self.origin + path)
        assert answer is not None and answer.status == status, f"{path}: {answer and answer.status}"
        return self.page

    def inspect(self) -> None:
        """Asserts that the page that is open suits every eye, hand and screen."""
        problems = inspect(self.page)
        assert problems == [], f"{self.page.url}: " + "\n".join(problems)


class Visitors:
    """Who takes part in one test."""

    def __init__(self, browser: Browser, given: Given) -> None:
        self.given = given
        self._browser = browser
        self._made: list[Visitor] = []

    def signed_out(self, **options: Any) -> Visitor:
        """Nobody is signed in. `options` are those of a context of Playwright, for example `java_script_enabled=False`."""
        context = self._browser.new_context(**{"locale": _LOCALE, "base_url": self.given.stint.url} | options)
        context.set_default_timeout(20_000)  # a busy machine may stall for seconds
        guard = Guard(context, self.given.stint.url)
        self._made.append(Visitor(context, context.new_page(), guard, self.given.stint.url))
        return self._made[-1]

    def leave(self) -> None:
        """Closes all windows. Fails if anything was wrong in one of them."""
        for visitor in self._made:
            visitor.context.close()
        problems = [problem for visitor in self._made for problem in visitor.guard.problems]
        assert problems == [], "\n".join(problems)
