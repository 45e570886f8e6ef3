"""A browser without JavaScript: it keeps cookies, sends what browsers send, and reads pages.

It has its own jar, because that of the standard library never sends a `Secure` cookie to http://127.0.0.1, which browsers do.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookies import SimpleCookie
from threading import Barrier
from typing import Any
from uuid import UUID

import httpx2

from api.console.sessions import COOKIE, csrf_token
from schemas.identity import console_sessions
from schemas.postgres.connection import connect
from tests.console.html import Element, parse
from tests.support.apart import run_apart
from tests.support.given import Given, Person
from tests.support.installation import Installation


@dataclass(frozen=True)
class Page:
    """An answer. `html` is parsed when it is first asked for."""

    answer: httpx2.Response

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def location(self) -> str:
        return self.answer.headers.get("location", "")

    @property
    def html(self) -> Element:
        return parse(self.answer.text)

    @property
    def text(self) -> str:
        """What a person reads: the text of `<main>`."""
        return self.html.one("main").text

    @property
    def title(self) -> str:
        """The only h1."""
        return self.html.one("h1").text

    @property
    def errors(self) -> dict[str, str]:
        """The errors beside fields, by the name of the field."""
        return {found["id"].removeprefix("e-"): found.text for found in self.html.all("p", class_="error")}


class Browser:
    """One browser, at the pages of one installation."""

    def __init__(self, stint: Installation) -> None:
        self.stint, self.cookies = stint, dict[str, str]()
        self.http = httpx2.Client(base_url=stint.url, timeout=20, headers={"Accept-Language": "en-GB"})

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, *, follow: bool = True, headers: dict[str, str] | None = None, **query: Any) -> Page:
        """The page, after redirects."""
        page = self.request("GET", path, params=query or None, headers=headers)
        return self._follow(page) if follow else page

    def post(
        self, path: str, fields: dict[str, Any] | None = None, *, follow: bool = True, headers: dict[str, str] | None = None
    ) -> Page:
        """Sends a form as a page of Stint does, with the CSRF token of the session. A list sends a name several times."""
        data = (fields or {}) | ({"csrf": self.csrf} if self.csrf else {})
        page = self.request("POST", path, data=data, headers={"Sec-Fetch-Site": "same-origin"} | (headers or {}))
        return self._follow(page) if follow else page

    def submit(self, form: Element, fields: dict[str, Any] | None = None, *, follow: bool = True) -> Page:
        """Sends this form of a page with what it contains, and these values."""
        values = form.fields() | (fields or {})
        if form.attributes.get("method") != "post":
            return self.get(form["action"], follow=follow, **values)
        page = self.request("POST", form["action"], data=values, headers={"Sec-Fetch-Site": "same-origin"})
        return self._follow(page) if follow else page

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **sent: Any) -> Page:
        """One request with the cookies, without following redirects."""
        jar = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        answer = self.http.request(method, path, headers=jar | (headers or {}), **sent)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                assert name.startswith("__Host-") and morsel["secure"] and morsel["path"] == "/" and not morsel["domain"], line
                assert morsel["httponly"] and morsel["samesite"].lower() == "lax", line
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return Page(answer)

    @property
    def csrf(self) -> str:
        """The CSRF token of the session; empty without a session."""
        return csrf_token(self.cookies[COOKIE]) if COOKIE in self.cookies else ""

    def sign_in_as(self, person: Person) -> "Browser":
        """With a new session of that person, without pages and mails."""
        self.cookies[COOKIE] = new_session(self.stint, person)
        return self

    def _follow(self, page: Page) -> Page:
        for _ in range(5):
            if page.status not in (302, 303):
                return page
            page = self.request("GET", page.location)
        raise AssertionError(f"too many redirects: {page.location}")


class Browsers:
    """Browsers of people of one test."""

    def __init__(self, given: Given) -> None:
        self.given, self._made = given, list[Browser]()

    def new(self) -> Browser:
        """Nobody is signed in."""
        self._made.append(Browser(self.given.stint))
        return self._made[-1]

    def of(self, person: Person) -> Browser:
        """This person is signed in."""
        return self.new().sign_in_as(person)

    def admin(self) -> Browser:
        """A new admin is signed in."""
        return self.of(self.given.admin())

    def person(self, role: str = "internal_user", customer_id: str | None = None) -> Browser:
        """A new user of that role is signed in."""
        return self.of(self.given.person(role, customer_id))

    def close(self) -> None:
        for browser in self._made:
            browser.close()


def at_once(*requests: Callable[[], Page]) -> list[Page]:
    """Sends them at the same time."""
    barrier = Barrier(len(requests))

    def send(request: Callable[[], Page]) -> Page:
        barrier.wait()
        return request()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def new_session(stint: Installation, person: Person) -> str:
    """The token of a new session of that person."""
    return run_apart(_start(stint, UUID(person.id)))


async def _start(stint: Installation, user_id: UUID) -> str:
    async with await connect(stint.settings) as conn:
        token = await console_sessions.start(conn, user_id)
    assert token is not None, f"{user_id} may sign in"
    return token


def new_link(stint: Installation, person: Person) -> str:
    """The token of a link that signs the person in once."""
    return run_apart(_create_link(stint, UUID(person.id)))


async def _create_link(stint: Installation, user_id: UUID) -> str:
    async with await connect(stint.settings) as conn:
        return await console_sessions.create_link(conn, user_id)
