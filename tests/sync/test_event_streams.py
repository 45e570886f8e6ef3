"""How a stream of live events starts, continues and ends."""

import asyncio
import socket
import struct
import time
from contextlib import ExitStack

import httpx2
import psycopg
import pytest

from api.auth import leases
from api.auth.auth import Authenticator
from api.sync.event_listeners import ENDED
from schemas.postgres.connection import PoolBusy
from tests.identity.tokens import Mint
from tests.support.answers import assert_cors, at, problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.in_process import in_process, json_exchange
from tests.support.installation import Installation, eventually
from tests.sync.streams import RESET, Stream, metric, open_stream, subscribed, wait_for_all_changes

# the connections that read changes, and no others
READERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%%pg_visible_in_snapshot%%' AND pid <> pg_backend_pid()
"""


def test_a_stream_starts_with_a_reset_and_must_not_be_cached_or_buffered(given: Given) -> None:
    with subscribed(given.person()) as stream:
        assert stream.events == [RESET]
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in stream.headers
        assert_cors(httpx2.Response(200, headers=stream.headers))


def test_a_stream_without_changes_sends_heartbeats(given: Given, another: Another) -> None:
    with subscribed(given.person(), another(STINT_HEARTBEAT_SECONDS="0.2").url) as stream:
        eventually(lambda: stream.heartbeats >= 3)
        assert stream.events == [RESET]


def test_after_the_reader_lost_its_connection_every_stream_gets_a_reset(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with subscribed(by) as one, subscribed(given.person()) as other:
        wait_for_all_changes(given, by, task, one, other)
        readers = [pid for (pid,) in stint.rows(READERS)]
        assert len(readers) == 1, readers
        stint.rows("SELECT pg_terminate_backend(%s)", readers[0])
        for stream in (one, other):
            eventually(lambda stream=stream: stream.resets == 2, why="a second reset")
        wait_for_all_changes(given, by, task, one, other)
        assert [one.resets, other.resets] == [2, 2]


def test_a_change_in_an_open_transaction_is_received_after_the_reader_lost_its_connection(
    given: Given, stint: Installation
) -> None:
    by = given.person()
    task = given.task(by)
    with subscribed(by) as stream, psycopg.connect(stint.database_url) as conn:
        wait_for_all_changes(given, by, task, stream)
        conn.execute("UPDATE tasks SET title = 'late' WHERE id = %s", (task["id"],))
        for (pid,) in stint.rows(READERS):
            stint.rows("SELECT pg_terminate_backend(%s)", pid)
        eventually(lambda: stream.resets == 2, why="a second reset")
        before = stream.events.count(("task", task["id"]))
        conn.commit()
        stream.wait_for("task", task["id"], times=before + 1)


def test_the_stream_of_a_user_whose_access_is_removed_ends(given: Given, stint: Installation) -> None:
    removed, other = given.people(2)
    with subscribed(removed) as removed_stream, subscribed(other) as other_stream:
        stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING id", removed.id)
        assert removed_stream.ends_properly()
        problem(removed.http.get("/api/events"), 401)
        task = given.task(other)
        other_stream.wait_for("task", task["id"])
        assert not other_stream.has_ended


def test_a_user_whose_access_was_removed_opens_no_stream_by_a_lease(
    given: Given, stint: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change was published before the stream subscribes, so it would never end. Nor does one if that cannot be verified:
    the process counts why, and that it is no error."""
    monkeypatch.setattr(leases, "MAX_AGE_SECONDS", 60.0)
    removed = given.person()

    async def run() -> list[int]:
        async with in_process(stint.settings) as api:

            async def status(path: str) -> int:
                exchange = json_exchange("GET", path, token=removed.token)
                exchange.disconnected.set()
                await api.request(exchange)
                return exchange.status

            async def busy(*_: object) -> None:
                raise PoolBusy

            before = await status("/api/me")
            with monkeypatch.context() as patch:
                patch.setattr(Authenticator, "current_role", busy)
                statuses = [before, await status("/api/events")]
            stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING id", removed.id)
            return [*statuses, await status("/api/me"), await status("/api/events")]

    def ended() -> dict[str, float]:
        return {why: ENDED.labels(why)._value.get() for why in ("error", "revoked", "unverified")}

    before = ended()
    assert asyncio.run(run()) == [200, 503, 200, 401]
    assert ended() == before | {why: before[why] + 1 for why in ("revoked", "unverified")}


def test_the_stream_of_a_user_who_signs_out_ends(given: Given) -> None:
    by = given.person()
    with subscribed(by) as stream:
        assert by.http.post("/auth/sign-out").status_code == 204
        assert stream.ends_properly()


def test_the_stream_of_a_legacy_admin_who_gets_a_role_ends(given: Given, stint: Installation) -> None:
    legacy = given.person("none")
    with subscribed(legacy) as stream:
        stint.rows("UPDATE users SET role = 'customer_user' WHERE id = %s RETURNING id", legacy.id)
        assert stream.ends_properly()


def test_a_change_of_the_user_that_does_not_change_their_role_ends_no_stream(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with subscribed(by) as stream:
        stint.rows("UPDATE users SET joined_at = now() WHERE id = %s RETURNING id", by.id)
        wait_for_all_changes(given, by, task, stream)
        assert not stream.has_ended


def test_streams_of_two_tokens_with_different_names_of_a_user_do_not_store_the_names_in_turn(
    given: Given, stint: Installation
) -> None:
    mint, user_id = Mint(stint), given.new_id()
    people = [given.with_token(mint.token(sub=user_id, name=name)) for name in ("Ann", "Anna")]
    row = "SELECT changed_xid::text FROM users WHERE id = %s"
    with subscribed(people[0]) as one, subscribed(people[1]) as other:
        people[0].get("/api/me")  # stores that name
        seen = stint.value(row, user_id)
        wait_for_all_changes(given, given.admin(), given.task(given.admin()), one, other)
        time.sleep(2)
        assert stint.value(row, user_id) == seen  # no stream has stored the other name
        assert not one.has_ended and not other.has_ended


def test_a_stream_ends_when_its_token_expires(given: Given, stint: Installation) -> None:
    ends_at = int(time.time()) + 4
    person = given.with_token(Mint(stint).token(exp=ends_at))
    with subscribed(person) as stream:
        assert stream.ends_properly()
        assert ends_at <= time.time()


def test_a_user_has_twenty_streams_at_most(given: Given) -> None:
    by = given.person()
    with ExitStack() as stack:
        streams = [stack.enter_context(subscribed(by)) for _ in range(20)]
        refused = by.http.get("/api/events")
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        stack.enter_context(subscribed(given.person()))  # other users are not affected
        streams[0].close()

        def once_more() -> bool:
            stream = Stream(open_stream(str(by.http.base_url), by.token))
            eventually(lambda: stream.status)
            stream.close()
            return stream.status == 200

        eventually(once_more, why="another stream is accepted again")


def test_a_process_refuses_more_streams_than_its_limit(given: Given, another: Another) -> None:
    small = another(STINT_MOST_LISTENERS="2")
    one, two, three = given.people(3)
    with subscribed(one, small.url), subscribed(two, small.url), at(small, three.token) as client:
        refused = client.get("/api/events")
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/api/me").status_code == 200


def test_metrics_count_streams_and_do_not_count_them_as_slow_requests(given: Given, another: Another) -> None:
    url = another(STINT_HEARTBEAT_SECONDS="0.2").url
    by = given.person()
    left = metric(url, 'stint_listeners_ended_total{why="left"}')
    answered = metric(url, 'stint_request_seconds_count{method="GET",route="/api/events"}')
    seconds = metric(url, 'stint_request_seconds_sum{method="GET",route="/api/events"}')
    with subscribed(by, url), subscribed(by, url):
        eventually(lambda: metric(url, "stint_listeners") == 2)
        time.sleep(3)
    eventually(lambda: metric(url, "stint_listeners") == 0)
    assert metric(url, 'stint_listeners_ended_total{why="left"}') == left + 2
    assert metric(url, 'stint_request_seconds_count{method="GET",route="/api/events"}') == answered + 2
    assert metric(url, 'stint_request_seconds_sum{method="GET",route="/api/events"}') - seconds < 3


@pytest.mark.parametrize("pipelined", [b"", b"GET /health/live HTTP/1.1\r\nHost: stint\r\n\r\n"], ids=["alone", "pipelined"])
def test_clients_that_leave_at_any_moment_are_no_errors(pipelined: bytes, given: Given, another: Another) -> None:
    api = another()
    by = given.person()
    for number in range(120):
        sock = open_stream(api.url, by.token)
        sock.sendall(pipelined)
        time.sleep(number % 40 / 5000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets the connection
        sock.close()
    eventually(lambda: metric(api.url, "stint_listeners") == 0)
    assert metric(api.url, 'stint_listeners_ended_total{why="error"}') == 0
    assert metric(api.url, 'stint_requests_total{method="GET",route="/api/events",status="500"}') == 0
    assert "Exception in ASGI application" not in api.log("api")


def test_a_stream_has_a_log_line_when_it_starts_and_one_when_it_ends(given: Given, stint: Installation) -> None:
    with subscribed(given.person()) as stream:
        request_id = stream.headers["x-request-id"]

        def lines() -> list[str]:
            return [line for line in stint.log("api").splitlines() if request_id in line]

        eventually(lines)
        assert '"GET /api/events 200"' in lines()[0]
    eventually(lambda: len(lines()) == 2)
    assert '"live events: stream ended why=left"' in lines()[1] and '"seconds"' in lines()[1]
