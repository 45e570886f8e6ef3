"""Every page, with the hours of a firm of twenty: it suits every eye, hand and screen. And its pictures in docs/console.md. To
take them again:

STINT_WRITE_PICTURES=1 ./stint test --browser -n 0 tests/console/browser/test_pictures.py
"""

import base64
import os
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.console.browser.demo import DemoFirm
from tests.console.browser.visitors import Visitor, Visitors
from tests.console.client import Browsers
from tests.console.table import TABLE
from tests.support.given import Given, Person
from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.browser

PAGE = CHECKOUT / "docs/console.md"
PICTURES = CHECKOUT / "docs/images/console"
WRITES = os.environ.get("STINT_WRITE_PICTURES") == "1"
MAX_BYTES = 150_000
# The pages that are shown in docs/console.md, by the names of their pictures.
SHOWN = {
    "now": "/console",
    "approve": "/console/approve",
    "hours": "/console/hours",
    "reports": "/console/reports",
    "customers": "/console/customers",
    "connections": "/console/connections",
    "queues": "/console/queues",
    "dead-letters": "/console/dead-letters",
    "sign-in": "/console/sign-in",
}
# Width of the window, and whether it is dark.
VIEWS = {"light": (1280, False), "dark": (1280, True), "narrow": (390, False)}
LEAST, MOST = 420, 1000  # pixels that a picture is high


def pages() -> list[str]:
    """The path of each page that needs no id of a row, as the table of routes has it."""
    reads = [(route.partition(" ")[2], case) for route, case in TABLE.items() if route.startswith("GET ")]
    return [path for path, case in reads if "{" not in path and not case.is_stream]


@pytest.fixture
def given(demo_firm: DemoFirm) -> Given:
    """People are those of the firm."""
    return demo_firm.given


@pytest.fixture
def browsers(given: Given) -> Iterator[Browsers]:
    with closing(Browsers(given)) as made:
        yield made


@pytest.mark.parametrize("path", pages())
def test_each_page_suits_every_eye_hand_and_screen(
    path: str, visitors: Visitors, demo_firm: DemoFirm, browsers: Browsers
) -> None:
    person = viewer(demo_firm, path)
    answer = browsers.of(person).get(path, follow=False).answer
    if answer.status_code == 200 and "<h1" in answer.text:
        visitor = visitors.of(person)
    elif (answer := browsers.new().get(path, follow=False).answer).status_code == 200 and "<h1" in answer.text:
        visitor = visitors.signed_out()
    else:
        return  # a part of a page, a file, or for others
    visitor.inspect(path)


def test_pages_of_one_row_suit_them_too(visitors: Visitors, demo_firm: DemoFirm) -> None:
    visitors.of(demo_firm.admin).inspect(*of_rows(demo_firm))


def of_rows(firm: DemoFirm) -> list[str]:
    """A page of each kind that needs the id of a row."""
    customer, pillar, task, message = firm.stint.rows(
        """
        SELECT c.id::text, p.id::text, t.id::text, m.id::text
        FROM customers c JOIN pillars p ON p.customer_id = c.id JOIN tasks t ON t.pillar_id = p.id, messages m
        WHERE c.xero_project_id IS NOT NULL AND m.state = 'dead'
        ORDER BY m.actor = 'sync_bill' DESC, c.name, p.name, t.title LIMIT 1
        """
    )[0]
    body = {"channelId": "C0ARCADIA", "channelName": "arcadia", "customerId": customer, "pillarId": pillar}
    channel = firm.admin.post("/api/slack/channel-mappings", body)["id"]
    mail = firm.stint.value("SELECT id::text FROM messages WHERE state = 'dead' AND actor = 'send_mail'")
    body = {"select": {"ids": [mail]}, "reason": "The mail server is back"}
    replay = firm.admin.post("/api/dead-letters/replay", body, status=202)["id"]
    entry = firm.stint.value("SELECT id::text FROM time_entries WHERE user_id = %s ORDER BY date DESC", firm.consultant.id)
    of_tasks, of_mappings = ("/tasks", f"/tasks/{task}"), ("/mappings", f"/mappings/channels/{channel}", "/xero")
    of_customer = ("", "/edit", f"/pillars/{pillar}", "/people", *of_tasks, *of_mappings)
    firm.given.settled(seconds=60)
    return [
        *(f"/console/customers/{customer}{rest}" for rest in of_customer),
        *(f"/console/dead-letters/{message}{rest}" for rest in ("", "/edit")),
        f"/console/dead-letters/replays/{replay}",
        f"/console/hours?person={firm.consultant.id}",
        f"/console/hours/entries/{entry}?person={firm.consultant.id}",
    ]


def test_pictures(request: pytest.FixtureRequest) -> None:
    if WRITES:
        take(request.getfixturevalue("visitors"), request.getfixturevalue("demo_firm"))
    large = [path.name for path in PICTURES.glob("*.webp") if path.stat().st_size >= MAX_BYTES]
    assert large == []


def take(visitors: Visitors, firm: DemoFirm) -> None:
    """Writes all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, path in SHOWN.items():
        for view, (width, is_dark) in VIEWS.items():
            visitor = visitors.signed_out() if name == "sign-in" else visitors.of(viewer(firm, path))
            visitor.page.set_viewport_size({"width": width, "height": LEAST})
            visitor.page.emulate_media(color_scheme="dark" if is_dark else "light", reduced_motion="reduce")
            visitor.open(path)
            (PICTURES / f"{name}-{view}.webp").write_bytes(picture(visitor, width))


def viewer(firm: DemoFirm, path: str) -> Person:
    """The one to whom the page shows most."""
    return firm.consultant if path == "/console/hours" else firm.admin


def picture(visitor: Visitor, width: int) -> bytes:
    """The page as WebP, which is much smaller than PNG, down to its end or to `MOST` pixels."""
    height = min(visitor.page.evaluate("document.documentElement.scrollHeight"), MOST)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    more = {"format": "webp", "quality": 90, "captureBeyondViewport": True, "clip": clip}
    taken = visitor.context.new_cdp_session(visitor.page).send("Page.captureScreenshot", more)
    return base64.b64decode(taken["data"])


def test_each_picture_is_shown_in_the_page() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(images/console/([a-z-]+)\.webp\)", PAGE.read_text())
    assert sorted(shown) == sorted(f"{name}-{view}" for name in SHOWN for view in VIEWS)
    assert sorted(shown) == sorted(path.stem for path in PICTURES.glob("*.webp"))
