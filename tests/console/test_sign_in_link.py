"""A link that signs a person in once, on the machine on which Stint runs."""

from concurrent.futures import ThreadPoolExecutor

from api.console.sessions import COOKIE
from api.console.signing_in.links import LINK
from tests.console.client import Browser, Browsers, new_link
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation


def test_the_button_of_the_link_signs_in_once_and_opening_it_uses_nothing(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    person, browser = given.admin(), browsers.new()
    token = new_link(stint, person)
    for _ in range(3):  # as a preview does
        page = browser.get(f"{LINK}?token={token}")
        assert page.title == "Sign in" and person.email in page.text
    assert browser.submit(page.html.one("form", action=LINK)).title == "Now"
    assert person.email.partition("@")[0] in browser.get("/console").html.one("form", class_="person").text

    again = browsers.new()
    assert (used := again.get(f"{LINK}?token={token}")).status == 404 and "used already" in used.text
    assert again.post(LINK, {"token": token}).status == 404 and COOKIE not in again.cookies
    assert token not in stint.log("api")
    assert not stint.rows("SELECT FROM sign_in_links WHERE user_id = %s", person.id)


def test_of_several_uses_at_once_one_signs_in(given: Given, browsers: Browsers, stint: Installation) -> None:
    token = new_link(stint, given.admin())
    many = [browsers.new() for _ in range(8)]

    def use(browser: Browser) -> int:
        return browser.post(LINK, {"token": token}, follow=False).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, many)) == [303] + [404] * 7
    assert sum(COOKIE in browser.cookies for browser in many) == 1


def test_a_link_of_before_a_removal_or_of_ten_minutes_ago_is_of_no_use(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    for change in (
        "UPDATE sign_in_links SET expires_at = clock_timestamp() - interval '1 second' WHERE user_id = %s RETURNING 1",
        "UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1",
        "UPDATE users SET access_version = access_version + 1 WHERE id = %s RETURNING 1",
    ):
        person, browser = given.admin(), browsers.new()
        token = new_link(stint, person)
        seconds = "SELECT extract(epoch FROM expires_at - clock_timestamp())::int FROM sign_in_links WHERE user_id = %s"
        assert 590 <= stint.value(seconds, person.id) <= 600
        stint.rows(change, person.id)
        assert browser.get(f"{LINK}?token={token}").status == 404, change
        assert browser.post(LINK, {"token": token}).status == 404, change
        assert COOKIE not in browser.cookies


def test_a_link_is_refused_elsewhere_and_not_used(
    given: Given, browsers: Browsers, stint: Installation, another: Another
) -> None:
    token = new_link(stint, given.admin())
    browser = browsers.new()
    behind_proxy = Browser(another(PUBLIC_URL="https://stint.example.com"))
    for where, headers in ((browser, {"X-Forwarded-For": "203.0.113.9"}), (browser, {"Via": "1.1 proxy"}), (behind_proxy, {})):
        refused = where.get(f"{LINK}?token={token}", headers=headers)
        assert refused.status == 403 and "only in a browser on the machine" in refused.text
        assert where.post(LINK, {"token": token}, headers=headers).status == 403
    behind_proxy.close()
    assert browser.post(LINK, {"token": token}).title == "Now"
