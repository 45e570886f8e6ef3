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

from schemas.identity.work_calendar import monday
from tests.console.browser.demo import DemoFirm
from tests.console.browser.visitors import Visitor, Visitors
from tests.console.client import Browsers, new_link
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
    "approve-day": "/console/approve?week={week}&person={consultant}&open={consultant}.{day}",
    "hours": "/console/hours",
    "reports": "/console/reports",
    "my-hours": "/console/my-hours",
    "customers": "/console/customers",
    "customer": "/console/customers/{customer}",
    "customer-xero": "/console/customers/{customer}/xero",
    "connections": "/console/connections",
    "queues": "/console/queues",
    "dead-letters": "/console/dead-letters",
    "dead-letter": "/console/dead-letters/{message}",
    "dry-run": "/console/dead-letters/replay?ids={message}",
    "replay": "/console/dead-letters/replays/{replay}",
    "sign-in": "/console/sign-in",
}
# Pages that the table has without the id of a row, and that are tried elsewhere or are none.
NOT_HERE = {
    "/console/sign-in/code": "test_signing_in.py",
    "/console/sign-in/pool": "leads to another site",
    "/console/sign-in/callback": "leads to the first page",
    "/console/connections/xero/callback": "leads to Connections",
    "/console/link": "below, with a link",
    "/console/my-hours/csv": "a file",
    "/console/reports/hours.csv": "a file",
    "/console/now/timers": "a part of Now",
    "/console/hours/tasks": "a part of Hours",
    "/console/dead-letters/replay": "below, with a dead letter",
    "/console/dead-letters/discard": "below, with a dead letter",
    "/console/dead-letters/restore": "below, with a discarded one",
}
# Pages that need ids.
OF_ROWS = [
    *(
        f"/console/customers/{{customer}}{rest}"
        for rest in (
            "", "/edit", "/pillars/{pillar}", "/people", "/tasks", "/tasks/{task}",
            "/mappings", "/mappings/channels/{channel}", "/xero",
        )
    ),
    "/console/dead-letters/{message}",
    "/console/dead-letters/{message}/edit",
    "/console/dead-letters/replay?ids={message}",
    "/console/dead-letters/discard?ids={message}",
    "/console/dead-letters/restore?ids={discarded}",
    "/console/dead-letters/{discarded}",
    "/console/dead-letters/replays/{replay}",
    "/console/approve?week={week}&open={consultant}.{day}",
    "/console/hours?person={consultant}",
    "/console/hours/entries/{entry}?person={consultant}",
]  # fmt: skip
# Width of the window, and whether it is dark.
VIEWS = {"light": (1280, False), "dark": (1280, True), "narrow": (390, False)}
LEAST, MOST = 420, 1000  # pixels that a picture is high
SHORTER = {"dead-letter": 700}  # without the traceback, which has the paths of a machine


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
        assert path in NOT_HERE, "it is neither a page here, nor named with where it is tried"
        return
    assert path not in NOT_HERE
    visitor.inspect(path)


def test_pages_of_one_row_suit_them_too(visitors: Visitors, demo_firm: DemoFirm) -> None:
    ids = ids_of(demo_firm)
    visitors.of(demo_firm.admin).inspect(*(path.format(**ids) for path in OF_ROWS))


def test_pages_for_customers_and_links_and_those_of_what_is_not_there_suit_them_too(
    visitors: Visitors, demo_firm: DemoFirm
) -> None:
    given, stint = demo_firm.given, demo_firm.stint
    visitors.of(given.person("customer_user", given.customer(demo_firm.admin)["id"])).inspect("/console/my-hours")  # no hours
    visitors.signed_out().inspect(f"/console/link?token={new_link(stint, demo_firm.admin)}")
    for visitor, path in (
        (visitors.signed_out(), "/console/link?token=used"),
        (visitors.of(demo_firm.admin), f"/console/customers/{given.new_id()}"),
        (visitors.of(demo_firm.admin), "/console/nowhere"),
    ):
        visitor.open(path, status=404)
        visitor.inspect()


def ids_of(firm: DemoFirm) -> dict[str, str]:
    """What the paths of OF_ROWS and SHOWN contain."""
    customer, pillar, task, message = firm.stint.rows(
        """
        SELECT c.id::text, p.id::text, t.id::text, m.id::text
        FROM customers c JOIN pillars p ON p.customer_id = c.id JOIN tasks t ON t.pillar_id = p.id, messages m
        WHERE c.xero_project_id IS NOT NULL AND m.state = 'dead'
        ORDER BY m.actor = 'sync_bill' DESC, c.name, p.name, t.title LIMIT 1
        """
    )[0]
    body = {"channelId": "C0ARCADIA", "channelName": "arcadia", "customerId": customer, "pillarId": pillar}
    found = firm.stint.rows("SELECT id::text FROM slack_channel_mappings WHERE channel_id = %s", body["channelId"])
    channel = found[0][0] if found else firm.admin.post("/api/slack/channel-mappings", body)["id"]
    unrecognized = (
        "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('mail', 'x', 'x', '{}') RETURNING id::text"
    )
    discarded = firm.stint.value(unrecognized)
    mail = firm.stint.value("SELECT id::text FROM messages WHERE actor = 'send_mail' AND state = 'dead'")
    why = {"reason": "The mail server is back"}
    firm.admin.post("/api/dead-letters/discard", {"select": {"ids": [discarded]}, **why}, status=200)
    replay = firm.admin.post("/api/dead-letters/replay", {"select": {"ids": [mail]}, **why}, status=202)["id"]
    entry, day = firm.stint.rows(
        """
        SELECT id::text, date FROM time_entries
        WHERE user_id = %s AND date < date_trunc('week', now())::date ORDER BY date DESC, id LIMIT 1
        """,
        firm.consultant.id,
    )[0]
    firm.given.settled(seconds=60)
    week = {"day": day.isoformat(), "week": monday(day).isoformat(), "consultant": firm.consultant.id}
    of_customer = {"customer": customer, "pillar": pillar, "task": task, "channel": channel}
    return week | of_customer | {"message": message, "discarded": discarded, "replay": replay, "entry": entry}


def customers_user(firm: DemoFirm) -> Person:
    """A user of the customer with the most approved hours."""
    most = """
        SELECT customer_id::text FROM time_bills WHERE status = 'approved' AND deleted_at IS NULL
        GROUP BY 1 ORDER BY sum(seconds) DESC LIMIT 1
    """
    person = firm.given.person("customer_user", firm.stint.value(most))
    firm.stint.rows("UPDATE users SET name = 'Jo Hart' WHERE id = %s RETURNING 1", person.id)
    return person


def test_pictures(request: pytest.FixtureRequest) -> None:
    if WRITES:
        take(request.getfixturevalue("visitors"), request.getfixturevalue("demo_firm"))
    large = [path.name for path in PICTURES.glob("*.webp") if path.stat().st_size >= MAX_BYTES]
    assert large == []


def take(visitors: Visitors, firm: DemoFirm) -> None:
    """Writes all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    ids = ids_of(firm)
    for name, template in SHOWN.items():
        path = template.format(**ids)
        for view, (width, is_dark) in VIEWS.items():
            visitor = visitors.signed_out() if name == "sign-in" else visitors.of(viewer(firm, path))
            visitor.page.set_viewport_size({"width": width, "height": LEAST})
            visitor.page.emulate_media(color_scheme="dark" if is_dark else "light", reduced_motion="reduce")
            visitor.open(path)
            (PICTURES / f"{name}-{view}.webp").write_bytes(picture(visitor, width, SHORTER.get(name, MOST)))


def viewer(firm: DemoFirm, path: str) -> Person:
    """The one to whom the page shows most."""
    if path == "/console/my-hours":
        return customers_user(firm)
    return firm.consultant if path == "/console/hours" else firm.admin


def picture(visitor: Visitor, width: int, most: int) -> bytes:
    """The page as WebP, which is much smaller than PNG, down to its end or to `most` pixels."""
    height = min(visitor.page.evaluate("document.documentElement.scrollHeight"), most)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    more = {"format": "webp", "quality": 90, "captureBeyondViewport": True, "clip": clip}
    taken = visitor.context.new_cdp_session(visitor.page).send("Page.captureScreenshot", more)
    return base64.b64decode(taken["data"])


def test_each_picture_is_shown_in_the_page() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(images/console/([a-z-]+)\.webp\)", PAGE.read_text())
    assert sorted(shown) == sorted(f"{name}-{view}" for name in SHOWN for view in VIEWS)
    assert sorted(shown) == sorted(path.stem for path in PICTURES.glob("*.webp"))
