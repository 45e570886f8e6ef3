"""Every route of the console with every kind of sender: each gets the expected status, and a refusal changes nothing."""

import re

import pytest

from api.console.routes import CONSOLE_ROUTES
from api.console.sessions import COOKIE
from api.console.static import files
from tests.api.invitations import reset_rate_limits
from tests.api.table import RouteCase
from tests.api.tenants import Tenant, filled, with_ids
from tests.api.test_roles import fingerprint
from tests.console.client import Browser, Browsers, Page
from tests.console.table import TABLE
from tests.support.given import Given
from tests.support.installation import Installation

# The sender, and the role in the table.
SENDERS = {
    "nobody": "nobody",
    "an unknown session": "nobody",
    "a session that has expired": "nobody",
    "an admin": "admin",
    "an internal user": "internal",
    "an admin of the customer": "customer_admin",
    "a user of the customer": "customer_user",
    "an admin of another customer": "customer_admin",
    "a user of another customer": "customer_user",
}
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests read all rows."""
    return stint_apart


def test_the_table_of_routes_repeats_each_handlers_method_and_path() -> None:
    declared = [
        (method, path, handler.fn.__name__)
        for _, _, handler in CONSOLE_ROUTES
        for method in handler.http_methods
        for path in handler.paths
    ]
    assert [(method, path, handler.fn.__name__) for method, path, handler in CONSOLE_ROUTES] == declared


def test_the_table_has_every_route() -> None:
    routes = {f"{method} {re.sub(r':[a-z]+', '', path)}" for method, path, _ in CONSOLE_ROUTES}
    assert sorted(routes - set(TABLE)) == [], "add a line for each of these routes to TABLE in tests/console/table.py"
    assert sorted(set(TABLE) - routes) == [], "these routes do not exist any more"


@pytest.mark.parametrize("who", SENDERS)
def test_each_route_answers_each_role_as_the_table_says_and_a_refusal_changes_nothing(
    who: str, given: Given, browsers: Browsers, stint: Installation, everything: Tenant
) -> None:
    browser = sender(who, browsers, everything)
    expected = {route: expected_status(who, route, case) for route, case in TABLE.items()}
    refused = [route for route, case in TABLE.items() if is_refused(who, case)]
    given.settled()
    reset_rate_limits(stint)

    before = kept(fingerprint(stint), who)
    answers = {route: send(browser, route, everything) for route in refused}
    assert kept(fingerprint(stint), who) == before, "a refused request has changed something"
    answers |= {route: send(browser, route, everything) for route in TABLE if route not in answers}

    assert {route: page.status for route, page in answers.items()} == expected
    for route, page in answers.items():
        assert {name: page.answer.headers.get(name) for name in HEADERS} == HEADERS, route
        assert "access-control-allow-origin" not in page.answer.headers
        if SENDERS[who] == "nobody" and not TABLE[route].nobody:
            assert page.title == "Sign in" if page.status == 401 else page.location.startswith("/console/sign-in?next="), route
        elif page.status == 403:
            assert page.title == "You may not do this" and "You are signed in as" in page.text, route
        elif "of another customer" in who and not TABLE[route].is_stream:
            assert [name for name, value in everything.ids.items() if value in page.answer.text] == [], route
    with stint.sql() as conn:  # the relay deletes it at any moment, which would look like a change by the next sender
        conn.execute("DELETE FROM console_sessions WHERE expires_at < now()")


def expected_status(who: str, route: str, case: RouteCase) -> int:
    if SENDERS[who] == "nobody" and not case.nobody:
        return 303 if route.startswith("GET ") else 401  # a form is kept on the page to sign in
    return int(getattr(case, SENDERS[who]))


def kept(found: dict[str, tuple[int, int]], who: str) -> dict[str, tuple[int, int]]:
    """Without what the relay deletes at any moment."""
    return {table: rows for table, rows in found.items() if (table, who) != ("console_sessions", "a session that has expired")}


def is_refused(who: str, case: RouteCase) -> bool:
    return case.needs_token and (SENDERS[who] == "nobody" or getattr(case, SENDERS[who]) >= 400)


def sender(who: str, browsers: Browsers, everything: Tenant) -> Browser:
    match who:
        case "nobody":
            return browsers.new()
        case "an unknown session":
            browser = browsers.new()
            browser.cookies[COOKIE] = "A" * 43
            return browser
        case "a session that has expired":
            browser = browsers.admin()
            with browser.stint.sql() as conn:
                conn.execute(
                    "UPDATE console_sessions SET expires_at = now() - interval '1 second' WHERE created_at ="
                    " (SELECT max(created_at) FROM console_sessions)"
                )
            return browser
        case "an admin":
            return browsers.admin()
        case "an internal user":
            return browsers.person()
        case "an admin of another customer" | "a user of another customer":
            return browsers.person(SENDERS[who], browsers.given.customer(browsers.given.person())["id"])
        case _:
            return browsers.person(SENDERS[who], everything.ids["customer_id"])


def send(browser: Browser, route: str, target: Tenant) -> Page:
    """Sends the route's request from the table. Reads only the beginning of an endless answer."""
    method, _, template = route.partition(" ")
    case, ids = TABLE[route], target.ids | {"owner": "me", "digest": files()["console.css"].digest, "name": "console.css"}
    ids |= {"message_id": ids["letter_id"]}  # a mail that somebody else has caused
    path, query = filled(template, ids), with_ids(case.query, ids)
    if case.is_stream:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        with browser.http.stream(method, path, params=query, headers=headers) as answer:
            if answer.is_success:
                assert next(answer.iter_bytes()), f"{route}: the stream is empty"
            return Page(answer)
    if method == "GET":
        return browser.get(path, follow=False, **query)
    return browser.post(path, with_ids(case.body, ids), follow=False)
