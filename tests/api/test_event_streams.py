"""How a stream of live events begins, goes on and ends."""

import time
from contextlib import ExitStack

import httpx
import psycopg

from tests.api.answers import assert_cors, at, problem
from tests.api.conftest import Another
from tests.api.streams import RESET, Stream, all_heard, asked, listening, metric
from tests.api.tokens import Mint
from tests.given import Given
from tests.installation import Installation, eventually

# that of a reader, and none of anything else
READER = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%%pg_visible_in_snapshot%%' AND pid <> pg_backend_pid()
"""


def test_a_stream_begins_with_a_reset_and_is_not_to_be_kept_or_buffered(given: Given) -> None:
    with listening(given.person()) as stream:
        assert stream.events == [RESET]
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in stream.headers
        assert_cors(httpx.Response(200, headers=stream.headers))


def test_a_quiet_stream_says_that_it_is_alive(given: Given, another: Another) -> None:
    with listening(given.person(), another(STINT_HEARTBEAT_SECONDS="0.2").url) as stream:
        eventually(lambda: stream.heartbeats >= 3)
        assert stream.events == [RESET]


def test_when_the_reader_loses_postgres_everybody_starts_over(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with listening(by) as one, listening(given.person()) as other:
        all_heard(given, by, task, one, other)
        readers = [pid for (pid,) in stint.rows(READER)]
        assert len(readers) == 1, readers
        stint.rows("SELECT pg_terminate_backend(%s)", readers[0])
        for stream in (one, other):
            eventually(lambda stream=stream: stream.resets == 2, why="a second reset")
        all_heard(given, by, task, one, other)
        assert [one.resets, other.resets] == [2, 2]


def test_a_change_that_was_under_way_when_the_reader_lost_postgres_is_heard(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with listening(by) as stream, psycopg.connect(stint.database_url) as conn:
        all_heard(given, by, task, stream)
        conn.execute("UPDATE tasks SET title = 'late' WHERE id = %s", (task["id"],))
        for (pid,) in stint.rows(READER):
            stint.rows("SELECT pg_terminate_backend(%s)", pid)
        eventually(lambda: stream.resets == 2, why="a second reset")
        before = stream.events.count(("task", task["id"]))
        conn.commit()
        stream.heard("task", task["id"], times=before + 1)


def test_whose_access_is_removed_is_cut_off(given: Given, stint: Installation) -> None:
    removed, other = given.people(2)
    with listening(removed) as cut_off, listening(other) as goes_on:
        stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING id", removed.id)
        assert cut_off.is_over_soon()
        problem(removed.http.get("/api/events"), 401)
        task = given.task(other)
        goes_on.heard("task", task["id"])
        assert not goes_on.is_over


def test_who_was_a_legacy_admin_and_now_has_a_role_is_cut_off(given: Given, stint: Installation) -> None:
    legacy = given.person("none")
    with listening(legacy) as stream:
        stint.rows("UPDATE users SET role = 'customer_user' WHERE id = %s RETURNING id", legacy.id)
        assert stream.is_over_soon()


def test_a_change_of_the_user_that_takes_no_right_away_ends_nothing(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with listening(by) as stream:
        stint.rows("UPDATE users SET joined_at = now() WHERE id = %s RETURNING id", by.id)
        all_heard(given, by, task, stream)
        assert not stream.is_over


def test_two_tokens_that_name_their_user_differently_do_not_disturb_each_other(given: Given, stint: Installation) -> None:
    mint, user_id = Mint(stint), given.new_id()
    people = [given.with_token(mint.token(sub=user_id, name=name)) for name in ("Ann", "Anna")]
    row = "SELECT changed_xid::text FROM users WHERE id = %s"
    with listening(people[0]) as one, listening(people[1]) as other:
        people[0].get("/api/me")  # remembers that name
        seen = stint.value(row, user_id)
        all_heard(given, given.admin(), given.task(given.admin()), one, other)
        time.sleep(2)
        assert stint.value(row, user_id) == seen  # nobody else has written down theirs
        assert not one.is_over and not other.is_over


def test_a_stream_ends_when_its_token_does(given: Given, stint: Installation) -> None:
    ends_at = int(time.time()) + 4
    person = given.with_token(Mint(stint).token(exp=ends_at))
    with listening(person) as stream:
        assert stream.is_over_soon()
        assert ends_at <= time.time()


def test_a_user_has_twenty_streams_at_most(given: Given) -> None:
    by = given.person()
    with ExitStack() as stack:
        streams = [stack.enter_context(listening(by)) for _ in range(20)]
        refused = by.http.get("/api/events")
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        stack.enter_context(listening(given.person()))  # others are not held up
        streams[0].close()

        def once_more() -> bool:
            stream = Stream(asked(str(by.http.base_url), by.token))
            eventually(lambda: stream.status)
            stream.close()
            return stream.status == 200

        eventually(once_more, why="there is room again")


def test_a_process_takes_so_many_listeners_and_no_more(given: Given, another: Another) -> None:
    small = another(STINT_MOST_LISTENERS="2")
    one, two, three = given.people(3)
    with listening(one, small.url), listening(two, small.url), at(small, three.token) as client:
        refused = client.get("/api/events")
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/api/me").status_code == 200


def test_metrics_count_listeners_and_take_no_stream_for_a_slow_answer(given: Given, another: Another) -> None:
    url = another(STINT_HEARTBEAT_SECONDS="0.2").url
    by = given.person()
    left = metric(url, 'stint_listeners_ended_total{why="left"}')
    answered = metric(url, 'stint_request_seconds_count{method="GET",route="/api/events"}')
    seconds = metric(url, 'stint_request_seconds_sum{method="GET",route="/api/events"}')
    with listening(by, url), listening(by, url):
        eventually(lambda: metric(url, "stint_listeners") == 2)
        time.sleep(3)
    eventually(lambda: metric(url, "stint_listeners") == 0)
    assert metric(url, 'stint_listeners_ended_total{why="left"}') == left + 2
    assert metric(url, 'stint_request_seconds_count{method="GET",route="/api/events"}') == answered + 2
    assert metric(url, 'stint_request_seconds_sum{method="GET",route="/api/events"}') - seconds < 3


def test_a_stream_has_a_line_in_the_log_when_it_begins_and_one_when_it_ends(given: Given, stint: Installation) -> None:
    with listening(given.person()) as stream:
        request_id = stream.headers["x-request-id"]

        def lines() -> list[str]:
            return [line for line in stint.log("api").splitlines() if request_id in line]

        eventually(lines)
        assert '"GET /api/events 200"' in lines()[0]
    eventually(lambda: len(lines()) == 2)
    assert '"a listener left: left"' in lines()[1] and '"seconds"' in lines()[1]
