"""Live events: what is told, to whom, and what is not; and when a stream ends."""

import secrets
import time
from contextlib import ExitStack

import httpx
import psycopg

from tests.api.answers import assert_cors, at, problem
from tests.api.conftest import Another
from tests.api.streams import RESET, Event, Stream, asked, listening
from tests.api.tokens import Mint
from tests.given import Given, Json, Person
from tests.installation import Installation, eventually

# that of a reader, and none of anything else
READER = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%%pg_visible_in_snapshot%%' AND pid <> pg_backend_pid()
"""


def metric(url: str, line: str) -> float:
    """The value of a metric, 0 as long as it is not there."""
    found = [row for row in httpx.get(f"{url}/metrics").text.splitlines() if row.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def renamed(by: Person, task: Json) -> None:
    by.put(f"/api/tasks/{task['id']}", {"title": f"Mended {secrets.token_hex(3)}"})


def all_heard(given: Given, by: Person, task: Json, *streams: Stream) -> set[Event]:
    """Returns when these have heard all that was committed until now: two new tasks of the same customer, one after the other,
    so that whatever was read together with the first is heard before the second."""
    markers = set()
    for _ in range(2):
        marker = ("task", given.task(by, {"id": task["customerId"]})["id"])
        for stream in streams:
            stream.heard(*marker)
        markers.add(marker)
    return markers


def test_a_stream_begins_with_a_reset_and_is_not_to_be_kept_or_buffered(given: Given) -> None:
    with listening(given.person()) as stream:
        assert stream.events == [RESET]
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in stream.headers
        assert_cors(httpx.Response(200, headers=stream.headers))


def test_the_firms_own_people_hear_of_all_four_kinds(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    with listening(given.person()) as colleague, listening(admin) as boss:
        stop = given.stopped(by, task)  # a timer that was started, and one that is gone
        by.put(f"/api/customers/{task['customerId']}/focus", {})
        renamed(by, task)
        for stream in (colleague, boss):
            stream.heard("activeTimer", by.id)
            stream.heard("timeBill", stop["timeBill"]["id"])
            stream.heard("focus", by.id)
            stream.heard("task", task["id"])


def test_a_timer_is_heard_of_when_it_starts_changes_stops_and_is_discarded(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    with listening(given.person()) as stream:
        steps = [
            lambda: by.post(f"/api/tasks/{task['id']}/start"),
            lambda: by.put("/api/active-timers/me", {"taskId": task["id"], "notes": "logs"}),
            lambda: by.post(f"/api/tasks/{other['id']}/start"),
            lambda: by.post(f"/api/tasks/{other['id']}/stop", status=202),
            lambda: by.post(f"/api/tasks/{task['id']}/start"),
            lambda: by.delete("/api/active-timers/me"),
        ]
        for number, step in enumerate(steps, 1):
            step()
            stream.heard("activeTimer", by.id, times=number)
        all_heard(given, by, task, stream)
        assert stream.events.count(("activeTimer", by.id)) == len(steps)  # the switch is one


def test_a_focus_is_heard_of_when_it_is_set_and_when_it_ends(given: Given) -> None:
    by = given.person()
    path = f"/api/customers/{given.customer(by)['id']}/focus"
    with listening(given.person()) as stream:
        by.put(path, {})
        stream.heard("focus", by.id)
        by.delete(path)
        stream.heard("focus", by.id, times=2)


class Tenant:
    """A customer with a user and an admin who listen, and what has happened to it."""

    def __init__(self, given: Given, admin: Person, by: Person) -> None:
        self.customer = given.customer(admin)
        self.people = [given.person(role, self.customer["id"]) for role in ("customer_user", "customer_admin")]
        self.kept, self.leaving, self.doomed = (given.task(by, self.customer) for _ in range(3))
        self.draft = given.bill(by, self.kept, start="2026-03-04T09:00:00Z")["id"]
        self.approved = given.bill(by, self.kept, start="2026-03-03T09:00:00Z")["id"]
        self.reopened = given.approved_bill(by, admin, self.leaving)["id"]
        self.ids = {self.customer["id"], *(task["id"] for task in (self.kept, self.leaving, self.doomed))}
        self.ids |= {self.draft, self.approved, self.reopened, *(person.id for person in self.people)}


def test_a_customers_users_hear_of_their_own_tasks_and_approved_bills_and_of_nothing_else(
    given: Given, stint: Installation
) -> None:
    admin, by = given.admin(), given.person()
    own, other = Tenant(given, admin, by), Tenant(given, admin, by)
    given.settled()
    with ExitStack() as stack:
        streams = {tenant: [stack.enter_context(listening(person)) for person in tenant.people] for tenant in (own, other)}
        inside = [stack.enter_context(listening(person)) for person in (admin, by, given.person("none"))]

        for tenant, elsewhere in ((own, other), (other, own)):
            renamed(by, tenant.kept)
            by.put(f"/api/tasks/{tenant.leaving['id']}", {"customerId": elsewhere.customer["id"]})
            by.put(f"/api/tasks/{tenant.doomed['id']}", {"status": "archived"})
            by.patch(f"/api/time-bills/{tenant.draft}", {"memo": "a draft"})
            admin.patch(f"/api/time-bills/{tenant.approved}", {"status": "approved"})
            admin.patch(f"/api/time-bills/{tenant.reopened}", {"status": "pending"})
            by.put(f"/api/customers/{tenant.customer['id']}/focus", {})
            given.stopped(by, tenant.kept)
            by.put(f"/api/customers/{tenant.customer['id']}/pillars/{tenant.kept['pillarId']}", {"name": "Hosting"})
        given.settled()
        markers = {tenant: all_heard(given, by, tenant.kept, *streams[tenant], *inside) for tenant in (own, other)}

        for tenant, elsewhere in ((own, other), (other, own)):
            expected = markers[tenant] | {
                RESET,
                ("task", tenant.kept["id"]),
                ("task", tenant.leaving["id"]),  # it is gone
                ("task", tenant.doomed["id"]),
                ("task", elsewhere.leaving["id"]),  # it has come
                ("timeBill", tenant.approved),
                ("timeBill", tenant.reopened),
            }
            for stream in streams[tenant]:
                assert set(stream.events) == expected
                heard = {row_id for _, row_id in stream.events}
                assert heard & elsewhere.ids == {elsewhere.leaving["id"]}
            for stream in inside:
                assert expected | {("timeBill", tenant.draft), ("focus", by.id), ("activeTimer", by.id)} <= set(stream.events)
                assert {kind for kind, _ in stream.events} <= {"reset", "task", "timeBill", "activeTimer", "focus"}


def test_of_a_bill_that_is_a_draft_again_its_customer_hears_no_more(given: Given) -> None:
    admin, by = given.admin(), given.person()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task)
    user = given.person("customer_user", task["customerId"])
    with listening(user) as stream:
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": "pending"})
        stream.heard("timeBill", bill["id"])
        problem(user.http.get(f"/api/time-bills/{bill['id']}"), 404)
        by.patch(f"/api/time-bills/{bill['id']}", {"memo": "still at it"})
        all_heard(given, by, task, stream)
        assert stream.events.count(("timeBill", bill["id"])) == 1
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})
        stream.heard("timeBill", bill["id"], times=2)


def test_a_task_that_has_left_is_no_longer_heard_of(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    stays = given.task(by, {"id": task["customerId"]})
    with listening(given.person("customer_user", task["customerId"])) as stream:
        by.put(f"/api/tasks/{task['id']}", {"customerId": given.customer(by)["id"]})
        stream.heard("task", task["id"])
        renamed(by, task)
        all_heard(given, by, stays, stream)
        assert stream.events.count(("task", task["id"])) == 1


def test_a_change_that_commits_late_is_heard_and_the_others_meanwhile_once(given: Given, stint: Installation) -> None:
    by = given.person()
    late, task = given.task(by), given.task(by)
    with listening(given.person()) as stream:
        with psycopg.connect(stint.database_url) as conn:
            conn.execute("UPDATE tasks SET title = 'late' WHERE id = %s", (late["id"],))
            for number in range(1, 4):
                renamed(by, task)
                stream.heard("task", task["id"], times=number)
            time.sleep(2.5)  # polls, all of them while that transaction is open
            assert ("task", late["id"]) not in stream.events
            conn.commit()
        stream.heard("task", late["id"])
        all_heard(given, by, task, stream)
        assert stream.events.count(("task", late["id"])) == 1
        assert stream.events.count(("task", task["id"])) == 3


def test_a_change_that_is_rolled_back_is_not_heard(given: Given, stint: Installation) -> None:
    by = given.person()
    undone, task = given.task(by), given.task(by)
    with listening(given.person()) as stream:
        with psycopg.connect(stint.database_url) as conn:
            conn.execute("UPDATE tasks SET title = 'undone' WHERE id = %s", (undone["id"],))
            conn.rollback()
        all_heard(given, by, task, stream)
        assert ("task", undone["id"]) not in stream.events


def test_every_api_process_tells_its_own_listeners(given: Given, another: Another) -> None:
    by, listener = given.person(), given.person()
    second = another(STINT_HEARTBEAT_SECONDS="0.2")
    with listening(listener) as here, listening(listener, second.url) as there:
        task = given.task(by)
        with at(second, by.token) as client:
            stop = client.post(f"/api/tasks/{task['id']}/start")
        assert stop.status_code == 201
        for stream in (here, there):
            stream.heard("task", task["id"])
            stream.heard("activeTimer", by.id)


def test_a_quiet_stream_says_that_it_is_alive(given: Given, another: Another) -> None:
    with listening(given.person(), another(STINT_HEARTBEAT_SECONDS="0.2").url) as stream:
        eventually(lambda: stream.heartbeats >= 3)
        assert stream.events == [RESET]


def test_more_than_a_thousand_changes_at_once_are_a_reset(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with listening(by) as stream:
        for count, resets in ((1_000, 1), (1_001, 2)):
            stint.rows(
                """
                INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
                SELECT gen_random_uuid(), 'imported', %s, %s, '', %s FROM generate_series(1, %s) RETURNING id
                """,
                task["customerId"], task["pillarId"], by.id, count,
            )  # fmt: skip
            eventually(
                lambda resets=resets, count=count: stream.resets == resets and (resets > 1 or len(stream.events) > count)
            )
        assert len(set(stream.events)) == 1_000 + 1


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
