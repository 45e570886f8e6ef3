"""Signing in to the console; and where a session ends."""

import httpx2
import pytest

from api.console.sessions import COOKIE
from api.console.urls import local_path
from tests.api.invitations import reset_rate_limits
from tests.console.client import Browser, Browsers
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation


def is_signed_in(browser: Browser) -> bool:
    page = browser.get("/console", follow=False)
    assert page.status in (200, 303), page.answer.text
    return page.status == 200


def test_a_code_from_the_mail_signs_in_and_leads_to_the_page_that_was_asked_for(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    reset_rate_limits(stint)
    person, browser = given.person(), browsers.new()

    page = browser.get("/console?from=mail")
    assert (page.title, page.answer.url.path) == ("Sign in", "/console/sign-in")
    assert browser.submit(page.html.one("form"), {"email": "nonsense"}).errors.keys() == {"email"}
    page = browser.submit(page.html.one("form"), {"email": person.email.upper()})
    assert page.title == "Enter the code" and person.email.partition("@")[0].upper() in page.text
    wrong = browser.submit(page.html.one("form"), {"code": "12345"})
    assert wrong.status == 422 and wrong.errors["code"].startswith("This code is wrong")
    page = browser.submit(page.html.one("form"), {"code": given.code(person)}, follow=False)
    assert (page.status, page.location) == (303, "/console?from=mail")
    assert is_signed_in(browser)
    assert (
        f"{browser.cookies[COOKIE]}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax; Secure" in page.answer.headers["set-cookie"]
    )


def test_the_page_to_come_back_to_may_have_any_characters(given: Given, browsers: Browsers, stint: Installation) -> None:
    reset_rate_limits(stint)
    person, browser = given.person(), browsers.new()
    page = browser.get("/console/sign-in?next=/console/%E2%98%83?q=%25C3%25A9")
    page = browser.submit(page.html.one("form"), {"email": person.email})
    page = browser.submit(page.html.one("form"), {"code": given.code(person)}, follow=False)
    assert (page.status, page.location) == (303, "/console/%E2%98%83?q=%C3%A9") and is_signed_in(browser)
    again = browser.get("/console/sign-in?next=/console/%E2%98%83", follow=False)
    assert (again.status, again.location) == (303, "/console/%E2%98%83")


def test_an_address_without_an_account_looks_the_same_and_signs_in_nobody(browsers: Browsers, stint: Installation) -> None:
    reset_rate_limits(stint)
    browser = browsers.new()
    page = browser.submit(browser.get("/console/sign-in").html.one("form"), {"email": "nobody@example.com"})
    assert page.title == "Enter the code"
    page = browser.submit(page.html.one("form"), {"code": "123456"})
    assert page.status == 422 and COOKIE not in browser.cookies


def test_the_page_to_sign_in_says_where_no_browser_keeps_a_session(browsers: Browsers, another: Another) -> None:
    browser = browsers.new()
    for host, is_kept in (
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("[::1]:1", True),
        ("stint.example", False),
        ("[2001:db8::1]:8000", False),
    ):
        page = browser.get("/console/sign-in", headers={"Host": host})
        assert ("Nobody stays signed in" in page.text) is not is_kept, host
    behind_tls = Browser(another(PUBLIC_URL="https://stint.example.com"))
    assert "Nobody stays" not in behind_tls.get("/console/sign-in", headers={"Host": "stint.example.com"}).text
    behind_tls.close()


def test_a_session_ends_where_it_must(given: Given, browsers: Browsers, stint: Installation) -> None:
    customer, other = given.customer(given.admin()), given.customer(given.admin())
    update = "UPDATE users SET {} WHERE id = '{}'"
    ends = {
        "removed": "revoked_at = now()",
        "another role": "role = 'internal_admin'",
        "moved to a customer": f"role = 'customer_user', customer_id = '{customer['id']}'",
        "no role": "role = 'visitor'",
    }
    for how, change in ends.items():
        person = given.person()
        browser = browsers.of(person)
        assert is_signed_in(browser), how
        stint.rows(update.format(change, person.id) + " RETURNING id")
        assert not is_signed_in(browser), how
        stint.rows(update.format("revoked_at = NULL, role = 'internal_user', customer_id = NULL", person.id) + " RETURNING id")
        assert not is_signed_in(browser), f"{how}, and back"

    of_customer = given.person("customer_user", customer["id"])
    browser = browsers.of(of_customer)
    assert browser.get("/console", follow=False).location == "/console/my-hours"
    stint.rows(update.format(f"customer_id = '{other['id']}'", of_customer.id) + " RETURNING id")
    assert browser.get("/console", follow=False).location.startswith("/console/sign-in")

    of_deleted = browsers.person("customer_admin", customer["id"])
    assert of_deleted.get("/console", follow=False).location == "/console/my-hours"
    given.admin().delete(f"/api/customers/{customer['id']}")
    assert of_deleted.get("/console", follow=False).location.startswith("/console/sign-in")


def test_signing_out_ends_one_session_and_the_api_ends_all(given: Given, browsers: Browsers) -> None:
    person = given.person()
    first, second, third = (browsers.of(person) for _ in range(3))
    token = first.cookies[COOKIE]
    page = first.post("/console/sign-out")
    assert page.title == "Sign in" and "You are signed out." in page.text
    first.cookies[COOKIE] = token
    assert not is_signed_in(first)
    assert is_signed_in(second) and is_signed_in(third)
    assert person.http.post("/auth/sign-out").status_code == 204
    assert not is_signed_in(second) and not is_signed_in(third)


def test_signing_out_with_a_session_that_has_ended_signs_out(given: Given, browsers: Browsers, stint: Installation) -> None:
    person = given.person()
    browser = browsers.of(person)
    stint.rows("UPDATE console_sessions SET expires_at = now() WHERE user_id = %s RETURNING 1", person.id)
    page = browser.post("/console/sign-out")
    assert page.title == "Sign in" and "You are signed out." in page.text and COOKIE not in browser.cookies
    assert "You are signed out." in browser.post("/console/sign-out").text, "and without one"


def test_a_sign_in_ends_the_session_that_the_browser_had(given: Given, browsers: Browsers, stint: Installation) -> None:
    reset_rate_limits(stint)
    first, second = given.person(), given.person()
    browser = browsers.of(first)
    before = browser.cookies[COOKIE]
    browser.post("/console/sign-in", {"email": second.email})
    browser.post("/console/sign-in/code", {"code": "1"})
    assert is_signed_in(browser), "a wrong code ends nothing"
    browser.post("/console/sign-in/code", {"code": given.code(second)})
    assert browser.cookies[COOKIE] != before and is_signed_in(browser)
    browser.cookies[COOKIE] = before
    assert not is_signed_in(browser)


def test_requests_without_a_session_are_counted_per_client(given: Given, another: Another) -> None:
    limited = Browser(another(STINT_CLIENT_REQUESTS="5"))
    person = given.person()
    for cookies in ({}, {COOKIE: "A" * 43}):
        limited.cookies = dict(cookies)
        pages = [limited.get("/console/hours", follow=False) for _ in range(6)]
    assert (
        pages[-1].status == 429 and pages[-1].title == "Too many requests" and int(pages[-1].answer.headers["retry-after"]) >= 1
    )
    assert limited.post("/console/hours/start", {"a": "b"}).status == 429
    assert limited.request("GET", "/xero/callback?code=x").status == 429
    assert limited.sign_in_as(person).get("/console").status == 200, "with a session nothing is counted"
    limited.close()


def test_a_role_that_changes_and_returns_ends_no_new_session(given: Given, browsers: Browsers, stint: Installation) -> None:
    person = given.person()
    stint.rows("UPDATE users SET role = 'internal_admin' WHERE id = %s RETURNING id", person.id)
    assert is_signed_in(browsers.of(person))


def test_a_session_lasts_twelve_hours(given: Given, browsers: Browsers, stint: Installation) -> None:
    person = given.person()
    browser = browsers.of(person)
    move = "UPDATE console_sessions SET expires_at = expires_at - make_interval(secs => %s) WHERE user_id = %s RETURNING 1"
    stint.rows(move, 12 * 3600 - 60, person.id)
    assert is_signed_in(browser)
    stint.rows(move, 61, person.id)
    assert not is_signed_in(browser)


def test_a_session_that_began_while_its_user_changed_is_of_no_use(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    """The trigger of the change does not see a session that is not committed yet."""
    for column, value in (("role", "internal_admin"), ("access_version", 7), ("customer_id", given.new_id())):
        person = given.person()
        browser = browsers.of(person)
        stint.rows(f"UPDATE console_sessions SET {column} = %s WHERE user_id = %s RETURNING 1", value, person.id)
        assert not is_signed_in(browser), column
    customer = given.customer(given.admin())
    browser = browsers.person("customer_user", customer["id"])
    stint.rows("UPDATE customers SET deleted_at = now() WHERE id = %s RETURNING 1", customer["id"])
    assert browser.get("/console", follow=False).location.startswith("/console/sign-in"), "the customer is deleted"
    stint.rows("UPDATE customers SET deleted_at = NULL WHERE id = %s RETURNING 1", customer["id"])  # it still has pillars


def test_only_a_hash_of_the_token_is_stored(given: Given, browsers: Browsers, stint: Installation) -> None:
    person = given.person()
    browser = browsers.of(person)
    [(stored, size, seconds)] = stint.rows(
        "SELECT s::text, octet_length(token_hash), extract(epoch FROM expires_at - created_at)::int"
        " FROM console_sessions s WHERE user_id = %s",
        person.id,
    )
    assert browser.cookies[COOKIE] not in stored and size == 32 and 43_195 <= seconds <= 43_205


def test_a_token_of_the_api_is_no_session_and_a_session_no_token(given: Given, browsers: Browsers, stint: Installation) -> None:
    person = given.person()
    assert person.http.get("/console", follow_redirects=False).status_code == 303
    cookie = {"Cookie": f"{COOKIE}={browsers.of(person).cookies[COOKIE]}"}
    assert httpx2.get(f"{stint.url}/api/me", headers=cookie).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["https://evil.example/", "//evil.example/console", "/\\evil.example", "/api/me", "/consoles", "console", "",
     "/console/../api", "/console\n", "javascript:alert(1)", "/console\\..\\x", "http:/console", "//[", "///console",
     "//console", "/console/%2e%2e/api", "/console/\u200b", "\ud800"],
)  # fmt: skip
def test_signing_in_leads_to_no_other_site(path: str) -> None:
    assert local_path(path) == "/console"
    assert local_path("/console/hours?week=2026-03-02") == "/console/hours?week=2026-03-02"
