"""People who use the console in a browser: each with a window and cookies of their own."""

from dataclasses import dataclass, replace
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from api.console.sessions import COOKIE
from tests.console.browser.guard import Guard
from tests.console.browser.inspection import inspect
from tests.console.client import new_session
from tests.support.given import Given, Person

# A day before its month, and no words of another language.
_LOCALE = "en-GB"
_OF_COOKIE = {"path": "/", "secure": True, "httpOnly": True, "sameSite": "Lax"}


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

    def inspect(self, *paths: str) -> None:
        """Asserts that these pages, or the one that is open, suit every eye, hand and screen."""
        problems = []
        for path in paths or (None,):
            page = self.page if path is None else self.open(path)
            problems += [f"{page.url}: {problem}" for problem in inspect(page)]
        assert problems == [], "\n".join(problems)


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

    def of(self, person: Person, **options: Any) -> Visitor:
        """This person is signed in."""
        visitor = self.signed_out(**options)
        cookie = {"name": COOKIE, "value": new_session(self.given.stint, person), "url": visitor.origin, **_OF_COOKIE}
        # Playwright's add_cookies names a domain, which no cookie of one host alone may have
        assert visitor.context.new_cdp_session(visitor.page).send("Network.setCookie", cookie)["success"]
        self._made[-1] = replace(visitor, person=person)
        return self._made[-1]

    def signed_in(self, role: str = "internal_admin", customer_id: str | None = None, **options: Any) -> Visitor:
        """A new person of that role is signed in."""
        return self.of(self.given.person(role, customer_id), **options)

    def leave(self) -> None:
        """Closes all windows. Fails if anything was wrong in one of them."""
        for visitor in self._made:
            visitor.context.close()
        problems = [problem for visitor in self._made for problem in visitor.guard.problems]
        assert problems == [], "\n".join(problems)
