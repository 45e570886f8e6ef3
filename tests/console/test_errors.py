"""Errors as pages: what is wrong and what to do, with the status of the API; and what is kept of a form."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from api.console.cookies import pack
from api.console.errors import plain_error_page
from api.console.pages import FLASH
from api.console.sessions import COOKIE
from api.console.signing_in.expired_forms import MAX_KEPT_BYTES
from api.console.signing_in.state import STATE
from api.http.requests import with_request_log
from api.http.security import CONSOLE_POLICY, with_common_headers
from tests.api.invitations import reset_rate_limits
from tests.console.client import Browser, Browsers, Page
from tests.console.html import Element
from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """A test makes statements fail."""
    return stint_apart


def test_what_is_not_there_is_a_page_below_the_console_and_json_elsewhere(browsers: Browsers, stint: Installation) -> None:
    admin = browsers.admin()
    for path in ("/console/nothing", "/console/static/0/nothing.js", "/console/static"):
        page = admin.get(path)
        assert (page.status, page.title) == (404, "There is nothing here"), path
        assert page.answer.headers["content-type"] == "text/html; charset=utf-8"
    wrong = admin.request("DELETE", "/console", headers={"Sec-Fetch-Site": "same-origin"})
    assert (wrong.status, wrong.title) == (405, "This page takes no such request") and "GET" in wrong.answer.headers["allow"]
    for path in ("/nothing", "/consoles", "/api/console"):
        assert httpx2.get(stint.url + path).headers["content-type"] == "application/problem+json"


def test_a_form_of_a_row_that_was_deleted_meanwhile_says_so_with_what_was_typed(given: Given, browsers: Browsers) -> None:
    customer, browser = given.customer(given.admin()), browsers.admin()
    base = f"/console/customers/{customer['id']}"
    forms = {form["action"]: form for form in browser.get(f"{base}/edit").html.all("form", method="post")}
    assert browser.submit(forms[f"{base}/delete"]).title == "Customers"
    late = browser.submit(forms[f"{base}/edit"], {"name": "Acme & Sons", "notes": ""})
    assert (late.status, late.title) == (404, "This customer is not there any more")
    assert "It was deleted already, so nothing was changed." in late.text
    typed = late.html.one("dl", class_="facts")
    assert "Acme & Sons" in typed.text and "Notes" not in typed.text
    assert browser.csrf not in typed.text and "Version" not in typed.text, "nobody has typed these"
    assert browser.get(late.html.one("a", class_="button")["href"]).title == "Customers"
    again = browser.get(base)
    assert (again.status, again.title) == (404, late.title) and not list(again.html.all("dl", class_="facts"))
    assert "It was deleted, or the address is wrong." in again.text


def is_page(page: Page) -> bool:
    """Whether it is a page with the headers of the console, and no answer of the API."""
    headers = page.answer.headers
    assert headers["content-type"] == "text/html; charset=utf-8", page.answer.text
    assert "access-control-allow-origin" not in headers
    return headers["content-security-policy"] == CONSOLE_POLICY.decode() and headers["referrer-policy"] == "same-origin"


def test_a_path_with_doubled_slashes_is_the_page_or_an_error_with_its_headers(browsers: Browsers) -> None:
    admin = browsers.admin()
    for path in ("//console", "//console//reports", "/console/", "///console/queues"):
        page = admin.request("GET", f"{admin.stint.url}{path}")
        assert page.status == 200 and is_page(page), path
    nothing = admin.request("GET", f"{admin.stint.url}//console/nothing")
    assert nothing.status == 404 and is_page(nothing)


def test_a_request_that_no_route_can_handle_is_a_page_below_the_console(browsers: Browsers) -> None:
    browser = browsers.new()
    for path in ("/console/%00", "/console/%ff", "/console?a=" + "x" * 9_000, "/console?" + "a&" * 101, "//console/%00"):
        page = browser.request("GET", browser.stint.url + path)
        assert page.status == 400 and page.title == "Malformed request" and is_page(page), path[:20]
        assert page.answer.headers["x-request-id"] in page.text
    assert browser.request("GET", "/api/%00").answer.headers["content-type"] == "application/problem+json"


def test_cookies_with_half_of_a_character_are_no_cookies(browsers: Browsers) -> None:
    """JSON may have them, and no page can be sent with them."""
    browser, half = browsers.admin(), "\ud800"
    for path in ("/console", "/console/nothing", "/console/sign-in/code"):
        browser.cookies |= {FLASH: pack(["done", half]), STATE: pack({"email": half, "state": half, "next": f"/console{half}"})}
        page = browser.get(path)
        assert page.status == (404 if path.endswith("nothing") else 200) and is_page(page)
    browser.cookies[FLASH] = pack(["done", "kept"])
    assert "kept" not in browser.get("/console/nothing").answer.text
    assert "kept" in browser.get("/console").text, "an error does not use it up"


def test_an_error_that_no_handler_takes_has_the_headers_and_an_id() -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a secret")

    def answer(path: str) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
        app = with_common_headers(with_request_log(broken, plain_error_page), "")
        asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]

    status, headers, body = answer("/console/x")
    assert status == 500 and headers[b"content-security-policy"] == CONSOLE_POLICY and b"Something went wrong" in body
    assert headers[b"x-request-id"] in body and b"secret" not in body
    status, headers, body = answer("/api/x")
    assert status == 500 and json.loads(body)["requestId"].encode() == headers[b"x-request-id"] and b"secret" not in body


def test_a_page_of_the_wrong_role_says_who_one_is(given: Given, browsers: Browsers) -> None:
    customer = given.customer(given.admin())
    browser = browsers.person("customer_user", customer["id"])
    assert browser.get("/console", follow=False).location == "/console/my-hours"


def test_a_failure_is_a_page_without_its_text(given: Given, browsers: Browsers, stint: Installation) -> None:
    browser = browsers.admin()
    with stint.sql() as conn:
        conn.execute("ALTER TABLE console_sessions RENAME TO elsewhere")
        try:
            lacking = browser.get("/console")
        finally:
            conn.execute("ALTER TABLE elsewhere RENAME TO console_sessions")
        conn.execute("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a secret'; END $$")
        conn.execute("CREATE TRIGGER fail BEFORE DELETE ON console_sessions FOR EACH ROW EXECUTE FUNCTION fail()")
        try:
            failed = browser.post("/console/sign-out")
        finally:
            conn.execute("DROP FUNCTION fail CASCADE")
    assert (lacking.status, lacking.title) == (503, "Stint cannot answer just now") and "./stint migrate" in lacking.text
    assert (failed.status, failed.title) == (500, "Something went wrong") and "a secret" not in failed.answer.text
    assert failed.answer.headers["x-request-id"] in failed.text
    assert browser.get("/console").title == "Now"


def test_without_postgres_a_page_says_so_and_files_are_sent(without_postgres: Installation) -> None:
    browser = Browser(without_postgres)
    assert browser.get("/console", follow=False).location == "/console/sign-in?next=%2Fconsole"
    sign_in = browser.get("/console/sign-in")
    assert sign_in.title == "Sign in"
    for link in sign_in.html.all("link"):
        assert browser.request("GET", link["href"]).status == 200
    browser.cookies[COOKIE] = "A" * 43
    for page in (browser.get("/console?a=b"), browser.post("/console/sign-out")):
        assert (page.status, page.title) == (503, "Stint cannot answer just now")
        assert page.answer.headers["retry-after"] == "1" and "database cannot be reached" in page.text
    assert browser.post("/console/sign-in", {"email": "jo@example.com"}).status == 503
    browser.close()


def test_a_form_whose_session_has_ended_is_kept_until_it_can_be_sent(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    reset_rate_limits(stint)
    person = given.person()
    browser = browsers.of(person)
    stint.rows("DELETE FROM console_sessions WHERE user_id = %s RETURNING 1", person.id)
    typed = {"note": "<b>10 = ten & more</b>\nsecond line", "tags": ["a", "b=c"], "empty": ""}
    typed["body"] = "é€ " * 14_000  # such as a long list on Approve, or the body of a dead letter: 224 kB
    headers = {"Referer": f"{stint.url}/console?week=1"}

    page = browser.post("/console/hours/start", typed, headers=headers)
    assert (page.status, page.title) == (401, "Sign in") and "was not saved" in page.text
    wrong = browser.submit(page.html.one("form"), {"email": "no address"})
    assert wrong.status == 422 and wrong.errors
    page = browser.post("/console/sign-in", pairs(page.html.one("form")) | {"email": person.email})
    assert page.title == "Enter the code"
    assert browser.post("/console/sign-in/code", pairs(page.html.one("form")) | {"code": "1"}).errors
    page = browser.post("/console/sign-in/code", pairs(page.html.one("form")) | {"code": given.code(person)})
    assert page.title == "You are signed in" and "10 = ten & more" in page.text
    assert page.html.one("a", href="/console?week=1")
    form = page.html.one("form", action="/console/hours/start", class_="action")
    sent = pairs(form)
    assert sent.pop("csrf") == browser.csrf
    assert sent == typed
    assert browser.submit(form).status == 422, "this page has no such fields"


def pairs(form: Element) -> dict[str, Any]:
    """All hidden fields of the form, with all values of a name."""
    found: dict[str, list[str]] = {}
    for field in form.all("input", type="hidden"):
        found.setdefault(field["name"], []).append(field["value"])
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def test_a_form_that_is_too_long_is_not_kept_and_a_part_of_a_page_leads_to_signing_in(browsers: Browsers) -> None:
    browser = browsers.new()
    page = browser.post("/console/hours/start", {"note": "a" * MAX_KEPT_BYTES})
    assert page.title == "Sign in" and "too long to be kept" in page.text
    with_query = browser.post("/console/hours/start?person=1&week=2", {"a": "b"})
    assert with_query.html.one("input", name="kept_path")["value"] == "/console/hours/start?person=1&week=2"
    button = browser.post("/console/hours/start")
    assert button.status == 401 and "Nothing was changed" in button.text
    assert not list(button.html.all("input", name="kept_path"))
    form_type = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    for size, is_kept in ((100, True), (MAX_KEPT_BYTES, False)):  # in chunks, without a length
        chunks = browser.request("POST", "/console/hours/start", headers=form_type, content=iter([b"note=", b"a" * size]))
        assert (chunks.status == 401) is is_kept and ("too long to be kept" in browser._follow(chunks).text) is not is_kept
    part = browser.request(
        "GET", "/console", headers={"HX-Request": "true", "HX-Current-URL": f"{browser.stint.url}/console/hours?week=2"}
    )
    assert part.status == 204
    assert part.answer.headers["hx-redirect"] == "/console/sign-in?next=%2Fconsole%2Fhours%3Fweek%3D2"
    form = browser.post("/console/hours/start", {"a": "b"}, headers={"HX-Request": "true"})
    assert form.title == "Sign in" and form.answer.headers["hx-retarget"] == "body"
    elsewhere = browser.post("/console/sign-in", {"kept_path": "https://evil.example", "kept": "a=b", "email": "x"})
    assert elsewhere.status == 422 and not list(elsewhere.html.all("input", name="kept_path"))
