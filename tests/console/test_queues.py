"""The page of the queues."""

from datetime import UTC, datetime, timedelta

import pytest

from api.console.operations.charts import chart
from api.console.operations.queues import rates
from schemas.messages import QUEUES
from schemas.outbox.queue_samples import QueueSample
from tests.console.client import Browsers
from tests.support.given import Given
from tests.support.installation import Installation

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests change what is recorded of all queues."""
    return stint_apart


def test_an_admin_sees_each_queue_with_the_last_hour_and_who_handles_it(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    given.settled()
    with stint.sql() as conn:
        conn.execute("DELETE FROM queue_samples")
        conn.execute(
            """
            INSERT INTO queue_samples (at, queue, waiting, later, running, dead, handled, oldest_seconds)
            SELECT now() - make_interval(mins => n), 'mail', n, 0, 3, 0, 0, 90 FROM generate_series(10, 50, 2) n
            """
        )
        conn.execute(
            """
            INSERT INTO heartbeats (process, kind, queues, started_at, seen_at, clock_seconds, other_queues)
            VALUES ('host<1>:5', 'work', '{mail}', now(), now(), 12, '{}'),
                   ('gone:6', 'work', '{mail}', now(), now() - interval '1 hour', 0, '{}'),
                   ('host:7', 'relay', '{}', now(), now(), 0, '{mail: it is a quorum queue & this is classic}')
            """
        )
        conn.execute(
            """
            UPDATE heartbeats SET late_handlers =
                '[{"actor": "send_mail", "message_id": "00000000-0000-0000-0000-000000000001", "seconds": 93}]'
            WHERE process = 'host<1>:5'
            """
        )
    browser = browsers.admin()
    page = browser.get("/console/queues")

    assert page.status == 200 and page.title == "Queues"
    queues, processes, *_ = page.html.all("table")
    assert [row.one("th").text for row in queues.one("tbody").all("tr")] == list(QUEUES)
    mail = next(row for row in queues.one("tbody").all("tr") if row.one("th").text == "mail")
    waiting, _running, _done, oldest = mail.all("svg")
    assert waiting["aria-label"] == "mail: waiting, last hour: at most 50, now 0"
    assert oldest["aria-label"] == "mail: oldest, last hour: at most 1 min, now 0 s"
    lines = [line["points"] for line in waiting.all("polyline")]
    # 21 samples without a gap; from ten minutes ago until now none
    assert len(lines) == 2 and len(lines[0].split()) == 21 and lines[1] == "60,20"
    assert "host<1>:5" in processes.text and "its clock differs by 12 s" in processes.text and "gone:6" not in processes.text
    assert "send_mail runs longer than its deadline: 1 min" in processes.text
    assert "gone:6" in page.text and "mail: it is a quorum queue & this is classic" in page.text
    assert "No relay runs" not in page.text


def test_the_page_refreshes_a_part_of_itself_unless_that_is_stopped(browsers: Browsers) -> None:
    browser = browsers.admin()
    whole = browser.get("/console/queues")
    live = whole.html.one("div", id="live")
    assert (live["hx-get"], live["hx-trigger"]) == ("/console/queues", "every 5s")
    part = browser.get(live["hx-get"], headers={"HX-Request": "true"})
    assert part.status == 200 and part.html.one("div", id="live")["hx-get"] == live["hx-get"]
    assert not list(part.html.all("h1"))
    still = browser.get("/console/queues", still="true").html
    assert "hx-get" not in still.one("div", id="live").attributes
    assert browser.get("/console/queues", still="rubbish", other="x").status == 422


def test_a_queue_without_worker_and_an_installation_without_relay_are_named(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    browser = browsers.admin()
    with stint.sql() as conn:
        conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM heartbeats")
        # those that run beat again every 5 seconds, so this is looked at once more if one just has
        for _ in range(5):
            conn.execute("DELETE FROM heartbeats")
            page = browser.get("/console/queues")
            if not conn.execute("SELECT FROM heartbeats").rowcount:
                break
        conn.execute("INSERT INTO heartbeats SELECT * FROM kept ON CONFLICT DO NOTHING")
    assert "No relay runs, so nothing is sent to the workers." in page.text
    assert [badge.text for badge in page.html.all("span", class_="bad")] == ["no worker"] * len(QUEUES)


def sample(seconds: float, handled: int) -> QueueSample:
    at = NOW + timedelta(seconds=seconds)
    return QueueSample(at=at, queue="mail", waiting=0, later=0, running=0, dead=0, handled=handled, oldest_seconds=0)


def test_what_is_done_per_minute_is_counted_over_a_minute() -> None:
    hour = [
        sample(0, 100),
        sample(30, 110),
        sample(60, 140),
        sample(90, 150),
        sample(93, 170),
        sample(600, 900),
        sample(660, 10),
    ]
    # without an earlier sample, after a pause of the relay, and after the totals were emptied there is no rate
    assert list(rates(hour).values()) == [0, 0, 40, 40, pytest.approx(60 / 63 * 60), 0, 0]


def test_a_chart_shows_the_highest_of_each_minute_and_its_gaps() -> None:
    def at(minutes: float) -> datetime:
        return NOW - timedelta(minutes=minutes)

    found = chart(
        "mail: waiting", [(at(70), 99), (at(59.5), 2), (at(58.6), 4), (at(58.2), 3), (at(1), 0), (at(0), 1)], NOW, str
    )
    assert found.lines == ("1,10 2,0", "59,20 60,15")
    assert found.summary == "mail: waiting, last hour: at most 4, now 1"
    assert chart("mail", [], NOW, str).lines == ()
    assert chart("mail", [(NOW, 0)], NOW, str).lines == ("60,20",)
