"""A request that writes is refused unless a page of Stint sends it: the same origin, and the CSRF token of the session."""

import pytest
from pydantic import SecretStr

from api.console.sessions import COOKIE, is_same_origin
from schemas.settings import Settings
from tests.api.tenants import Tenant, filled, tenant, with_ids
from tests.api.test_roles import fingerprint
from tests.console.client import Browser, Browsers
from tests.console.table import TABLE
from tests.support.given import Given
from tests.support.installation import Installation

FORGED = {
    "no token": {"Sec-Fetch-Site": "same-origin"},
    "another token": {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": "0" * 64},
    "the token of another session": {"Sec-Fetch-Site": "same-origin"},
    "from another site": {"Sec-Fetch-Site": "cross-site"},
    "from a neighbour": {"Sec-Fetch-Site": "same-site"},
    "from the address bar": {"Sec-Fetch-Site": "none"},
    "another origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"},
    "another page": {"Referer": "https://evil.example/console"},
    "no header": {},
}
WITH_VALID_TOKEN = {"from another site", "from a neighbour", "from the address bar", "another origin", "no origin"}
WITH_VALID_TOKEN |= {"another page", "no header"}
WRITES = [route for route in TABLE if not route.startswith("GET ")]


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests read all rows."""
    return stint_apart


def test_a_forged_request_is_refused_on_every_route_and_changes_nothing(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    own, admin = tenant(given), browsers.admin()
    of_another = browsers.admin().csrf
    given.settled()
    before = fingerprint(stint)
    for how, headers in FORGED.items():
        token = admin.csrf if how in WITH_VALID_TOKEN else of_another if how == "the token of another session" else ""
        for route in WRITES:
            # without a session there is no token to forge
            if TABLE[route].needs_token or how in WITH_VALID_TOKEN:
                assert forged(admin, route, own, headers, token) == 403, f"{route}: {how}"
    assert fingerprint(stint) == before
    assert admin.get("/console").status == 200, "the session has not ended"


def forged(browser: Browser, route: str, own: Tenant, headers: dict[str, str], token: str) -> int:
    method, _, template = route.partition(" ")
    fields = with_ids(TABLE[route].body, own.ids) | ({"csrf": token} if token else {})
    return browser.request(method, filled(template, own.ids), data=fields, headers=headers).status


def test_a_write_from_a_page_of_stint_is_accepted(browsers: Browsers, stint: Installation) -> None:
    for headers in (
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": stint.url},
        {"Referer": f"{stint.url}/console?x=1"},
        {"Origin": "http://127.0.0.1:8000"},  # PUBLIC_URL, where a proxy changes the Host
    ):
        admin = browsers.admin()
        by_field = admin.request("POST", "/console/sign-out", data={"csrf": admin.csrf}, headers=headers)
        assert by_field.status == 303 and COOKIE not in admin.cookies, headers
        admin = browsers.admin()
        by_header = admin.request("POST", "/console/sign-out", headers=headers | {"X-CSRF-Token": admin.csrf})
        assert by_header.status == 303 and COOKIE not in admin.cookies, headers


def test_what_another_site_asks_for_is_not_compressed_nor_are_events(browsers: Browsers) -> None:
    browser = browsers.admin()
    for asked_by, expected in (
        ("same-origin", "gzip"),
        ("none", "gzip"),
        ("same-site", None),
        ("cross-site", None),
        ("", None),
    ):
        sent = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": asked_by} if asked_by else {"Accept-Encoding": "gzip"}
        answer = browser.get("/console/customers", search="Smith", headers=sent).answer
        assert answer.headers.get("content-encoding") == expected and "Smith" in answer.text, asked_by
    plain = browser.get("/console", headers={"Accept-Encoding": "identity", "Sec-Fetch-Site": "none"}).answer
    assert "content-encoding" not in plain.headers and "<h1>" in plain.text
    headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": "same-origin", "Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
    with browser.http.stream("GET", "/console/events", headers=headers) as events:
        assert events.status_code == 200 and "content-encoding" not in events.headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"host", b"stint.example"), (b"origin", b"https://stint.example")], True),
        ([(b"host", b"inner:8000"), (b"origin", b"https://public.example")], True),
        ([(b"host", b"inner:8000"), (b"origin", b"http://public.example")], False),
        ([(b"host", b"stint.example"), (b"origin", b"https://stint.example.evil.example")], False),
        ([(b"host", b"stint.example"), (b"origin", b"https://evil.example/stint.example")], False),
        ([(b"host", b"stint.example"), (b"origin", b"file://stint.example")], False),
        ([(b"origin", b"https://stint.example")], False),
        ([(b"host", b"["), (b"origin", b"http://[")], False),
        ([(b"host", b"stint.example"), (b"referer", b"http://[")], False),
        ([(b"host", b""), (b"origin", b"https://")], False),
        # what the browser says counts more than an Origin
        ([(b"host", b"stint.example"), (b"origin", b"https://stint.example"), (b"sec-fetch-site", b"cross-site")], False),
    ],
)
def test_the_origin_is_compared_exactly(headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    settings = Settings(database_url="postgresql:///", secret_key=SecretStr("0" * 16), public_url="https://public.example/")
    assert is_same_origin({"headers": headers}, settings) is expected
