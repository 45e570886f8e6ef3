"""What the tests in a browser look for is found: here on a page that has each of these mistakes."""

import re

import pytest
from playwright.sync_api import Page, Route

from tests.console.browser.inspection import axe, moving, printed, too_wide, unreachable
from tests.console.browser.visitors import Visitors

pytestmark = pytest.mark.browser

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *"
BAD = """
<!doctype html><title>Hours</title>
<style>p { color: #ccc }</style>
<p onclick="alert()">Hours <a href="/somewhere" tabindex="-1">Approve</a></p>
<script src="/bad.js"></script>
<img src="http://elsewhere.example/pixel.png">
"""
STYLED = """
<!doctype html><title>Hours</title>
<style>
  @keyframes turn { to { rotate: 360deg } }
  @media (prefers-color-scheme: dark) { body { background: #222; color: #333 } }
  button { outline: 0; animation: turn 9s infinite }
  h1 { width: 400px }
</style>
<h1>Hours</h1>
<button>Approve</button><a href="/a">Now</a><a href="/b">Reports</a>
<label><input type="radio" name="x" value="1">One</label><label><input type="radio" name="x" value="2">Two</label>
<script>document.querySelector("[href='/a']").addEventListener("focus", () => document.querySelector("button").focus())</script>
"""


def serve(page: Page, path: str, body: str, **headers: str) -> None:
    """Answers that path with this page, instead of Stint."""

    def answer(route: Route) -> None:
        kind = "text/javascript" if path.endswith(".js") else "text/html"
        route.fulfill(body=body, headers=headers | {"Content-Type": kind})

    page.route(re.compile(re.escape(path) + "$"), answer)


def test_errors_violations_of_the_policy_and_requests_to_other_sites_are_found(visitors: Visitors) -> None:
    visitor = visitors.signed_out()
    serve(visitor.page, "/bad", BAD, **{"Content-Security-Policy": POLICY})
    serve(visitor.page, "/bad.js", "console.warn('old'); undefined.hours")
    visitor.open("/bad")
    visitor.page.wait_for_load_state("networkidle")

    found = "\n".join(visitor.guard.problems)
    visitor.guard.problems.clear()
    for part in (
        "style-src-elem refuses inline",
        "script-src-attr refuses inline",
        "warning in the console: old",
        "error of JavaScript: Cannot read properties of undefined",
        "request to another site: GET http://elsewhere.example/pixel.png",
    ):
        assert part in found, part


def test_an_expected_status_is_no_error_and_another_one_is(visitors: Visitors) -> None:
    visitor = visitors.signed_out()
    visitor.open("/api/tasks", status=401)
    assert visitor.guard.problems == []
    visitor.page.goto(f"{visitor.origin}/nowhere")
    assert "status of 404" in visitor.guard.problems.pop()


def test_what_keeps_people_from_using_a_page_is_found(visitors: Visitors) -> None:
    page = visitors.signed_out().page
    serve(page, "/styled", STYLED)
    page.goto("/styled")

    assert any("html-has-lang" in problem for problem in axe(page)) and not any("color-contrast" in each for each in axe(page))
    page.emulate_media(color_scheme="dark")
    assert any("color-contrast" in problem for problem in axe(page, "color-contrast"))
    on_paper = printed(page)
    assert any("color-contrast" in problem for problem in on_paper)
    assert "printed, and of no use there: <button>Approve</button>" in on_paper
    assert list(moving(page)) == ["it moves although less motion is asked for"]
    assert [problem.partition(" px wide")[2] for problem in too_wide(page)] == [" in a window of 360 px"]
    assert sorted(unreachable(page)) == [
        "its focus is invisible: <button>Approve</button>",
        'not reached by the Tab key: <a href="/a">Now</a>',
        'not reached by the Tab key: <a href="/b">Reports</a>',
        'not reached by the Tab key: <input type="radio" name="x" value="1">',
    ]
