"""Signing in to the console at the hosted page of a user pool."""

from collections.abc import Iterator

import httpx2
import pytest

from api.console.sessions import COOKIE
from api.console.signing_in.state import ATTEMPTS, MAX_ATTEMPTS, STATE
from tests.console.client import Browser, Page
from tests.console.hosted_page import HostedPage
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def hosted() -> Iterator[HostedPage]:
    with HostedPage() as made:
        yield made


@pytest.fixture(scope="module")
def pool_api(another: Another, hosted: HostedPage) -> Installation:
    return another(**hosted.environment)


@pytest.fixture
def browser(pool_api: Installation) -> Iterator[Browser]:
    made = Browser(pool_api)
    yield made
    made.close()


def to_callback(browser: Browser, path: str = "/console/sign-in") -> str:
    """Follows the way to the hosted page and back to Stint; the path with the code."""
    page = browser.get(path)
    assert "no password" not in page.text
    begun = browser.request("GET", page.html.one("a", class_="main")["href"])
    assert begun.status == 303
    back = httpx2.get(begun.location).headers["location"]
    assert back.startswith("http://127.0.0.1:8000/console/sign-in/callback?")
    return back.removeprefix("http://127.0.0.1:8000")


def signed_in(browser: Browser) -> Page:
    return browser.get(to_callback(browser))


def test_a_person_signs_in_at_the_hosted_page_and_comes_back_to_the_page_that_they_wanted(
    browser: Browser, hosted: HostedPage
) -> None:
    email = hosted.sign_in("internal_user")
    browser.get("/console?from=mail")
    page = signed_in(browser)
    assert page.title == "Now" and str(page.answer.url).endswith("/console?from=mail")
    assert email.partition("@")[0] in page.html.one("form", class_="person").text
    assert not {STATE, ATTEMPTS} & browser.cookies.keys()
    out = browser.post("/console/sign-out")
    assert "You are signed out." in out.text and out.html.one("a", href=True, class_="main")
    assert any(link["href"].startswith(f"{hosted.url}/logout?") for link in out.html.all("a"))


def test_sign_ins_in_several_tabs_do_not_disturb_each_other(browser: Browser, hosted: HostedPage) -> None:
    hosted.sign_in()
    long = "x" * 1_900
    tabs = ["/console?tab=1", "/console?tab=2"]
    paths = [to_callback(browser, tab) for tab in tabs]
    page = browser.get(paths[0])
    assert page.title == "Now" and str(page.answer.url).endswith(tabs[0])
    first = browser.cookies[COOKIE]
    page = browser.get(paths[1])
    assert page.title == "Now" and str(page.answer.url).endswith(tabs[1]) and ATTEMPTS not in browser.cookies
    browser.cookies[COOKIE] = first
    assert browser.get("/console").title == "Sign in", "the sign-in in the second tab has ended the session of the first"

    paths = [to_callback(browser, f"/console?q={number}{long}") for number in range(MAX_ATTEMPTS + 1)]
    assert "begun in another browser" in browser.get(paths[0]).text, "too many are kept"
    assert browser.get(paths[-1]).title == "Now"


def test_a_code_of_somebody_else_signs_in_nobody(browser: Browser, pool_api: Installation, hosted: HostedPage) -> None:
    hosted.sign_in()
    attacker = Browser(pool_api)
    stolen = to_callback(attacker)
    before = len(hosted.exchanges)
    for path in (stolen, "/console/sign-in/callback?code=x&state=", "/console/sign-in/callback"):
        page = browser.get(path)
        assert "begun in another browser" in page.text and COOKIE not in browser.cookies
        browser.get("/console/sign-in")  # with a state, but another one
    assert len(hosted.exchanges) == before, "the code was not even exchanged"
    assert attacker.get(stolen).title == "Now"
    attacker.close()


def test_a_code_works_once_and_only_with_the_verifier_of_its_browser(browser: Browser, hosted: HostedPage) -> None:
    hosted.sign_in()
    path = to_callback(browser)
    code = path.partition("code=")[2].partition("&")[0]
    hosted.codes[code]["code_challenge"] = "A" * 43
    assert "has signed nobody in" in browser.get(path).text and COOKIE not in browser.cookies
    path = to_callback(browser)
    attempts = browser.cookies[ATTEMPTS]
    assert browser.get(path).title == "Now"
    browser.cookies = {ATTEMPTS: attempts}
    assert "has signed nobody in" in browser.get(path).text and COOKIE not in browser.cookies


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"aud": "another-client"},
        {"aud": "unknown-client"},
        {"iss": "https://elsewhere.example"},
        {"token_use": "access", "client_id": "console-client"},
        {"exp": 1_000_000},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(browser: Browser, hosted: HostedPage, claims: dict[str, str]) -> None:
    hosted.sign_in(**claims)
    page = signed_in(browser)
    assert page.title == "Sign in" and COOKIE not in browser.cookies
    assert page.html.one("p", class_="flash").text.startswith("Note:")


def test_a_person_without_a_role_and_a_customers_user(browser: Browser, given: Given, hosted: HostedPage) -> None:
    hosted.sign_in("visitor")
    page = signed_in(browser)
    assert page.status == 403 and "no role" in page.text and COOKIE not in browser.cookies
    hosted.sign_in("customer_user", **{"custom:customerId": given.customer(given.person())["id"]})
    assert signed_in(browser).title.startswith("Hours of")


def test_a_pool_that_does_not_answer_is_a_page_and_a_code_by_mail_signs_in_nobody(browser: Browser, hosted: HostedPage) -> None:
    hosted.sign_in()
    path = to_callback(browser)
    hosted.status = 500
    page = browser.get(path)
    assert page.status == 503 and "does not answer" in page.text and "retry-after" in page.answer.headers
    for sent in ("/console/sign-in", "/console/sign-in/code"):
        assert browser.post(sent, {"email": "jo@example.com", "code": "123456"}).status == 404


def test_a_form_whose_session_has_ended_is_kept_while_one_signs_in_in_another_tab(browser: Browser, hosted: HostedPage) -> None:
    page = browser.post("/console/hours/start", {"note": "typed"})
    assert page.status == 401 and page.html.one("a", class_="main")["target"] == "_blank"
    kept = page.html.one("form", action="/console/sign-in/kept")
    assert "not signed in yet" in browser.submit(kept).text
    hosted.sign_in()
    assert signed_in(browser).title == "Now"
    page = browser.submit(kept)
    form = page.html.one("form", action="/console/hours/start", class_="action")
    assert page.title == "You are signed in" and form.fields() == {"csrf": browser.csrf, "note": "typed"}
