"""Live events: which changes are sent, and to which users."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from tests.support.answers import at, problem
from tests.support.apis import Another
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.sync.streams import RESET, Stream, subscribed, wait_for_all_changes


def renamed(by: Person, task: Json) -> None:
    by.put(f"/api/tasks/{task['id']}", {"title": f"Renamed {secrets.token_hex(3)}"})


@contextmanager
def caught_up(given: Given, by: Person, task: Json, listener: Person) -> Iterator[Stream]:
    """A stream without the events of what was there before. It may get those of the moment before it was opened, too."""
    with subscribed(listener) as stream:
        wait_for_all_changes(given, by, task, stream)
        stream.events.clear()
        yield stream


def test_the_firms_own_users_receive_all_four_kinds(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    with subscribed(given.person()) as colleague, subscribed(admin) as boss:
        stop = given.stopped(by, task)  # starts a timer, and ends it
        by.put(f"/api/customers/{task['customerId']}/focus", {})
        renamed(by, task)
        for stream in (colleague, boss):
            stream.wait_for("activeTimer", by.id)
            stream.wait_for("timeBill", stop["timeBill"]["id"])
            stream.wait_for("focus", by.id)
            stream.wait_for("task", task["id"])


def test_a_timer_sends_events_when_it_starts_changes_stops_and_is_discarded(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    with subscribed(given.person()) as stream:
        steps: list[Callable[[], object]] = [
            lambda: by.post(f"/api/tasks/{task['id']}/start"),
            lambda: by.put("/api/active-timers/me", {"taskId": task["id"], "notes": "logs"}),
            lambda: by.post(f"/api/tasks/{other['id']}/start"),
            lambda: by.post(f"/api/tasks/{other['id']}/stop", status=202),
            lambda: by.post(f"/api/tasks/{task['id']}/start"),
            lambda: by.delete("/api/active-timers/me"),
        ]
        for number, step in enumerate(steps, 1):
            step()
            stream.wait_for("activeTimer", by.id, times=number)
        wait_for_all_changes(given, by, task, stream)
        assert stream.events.count(("activeTimer", by.id)) == len(steps)  # the switch to another task is one event


def test_a_desktop_can_ask_for_its_own_timers_only(given: Given) -> None:
    by, colleague = given.person(), given.person()
    task = given.task(by)
    with subscribed(by) as everything, subscribed(by, query="?kind=activeTimer&own=true") as own:
        given.stopped(colleague, task)
        renamed(by, task)
        by.post(f"/api/tasks/{task['id']}/start")
        everything.wait_for("activeTimer", by.id)
        own.wait_for("activeTimer", by.id)
        assert set(own.events) == {RESET, ("activeTimer", by.id)}
        assert {("activeTimer", colleague.id), ("task", task["id"])} < set(everything.events)
        by.delete("/api/active-timers/me")


def test_an_event_that_does_not_exist_cannot_be_asked_for(given: Given) -> None:
    answer = given.person().http.get("/api/events", params={"kind": ["task", "timer"]})
    assert "kind" in str(problem(answer, 422)["errors"])


def test_many_changes_of_a_row_are_told_a_few_times(given: Given, another: Another) -> None:
    by = given.person()
    task, last = given.task(by), given.task(by)
    with subscribed(by, another(STINT_EVENTS_SECONDS="0.25").url) as stream:
        since = time.monotonic()
        for _ in range(40):
            renamed(by, task)
        renamed(by, last)
        stream.wait_for("task", last["id"])
        told = stream.events.count(("task", task["id"]))
        assert 1 <= told <= 2 + (time.monotonic() - since) / 0.25


def test_a_focus_sends_events_when_it_is_set_and_when_it_ends(given: Given) -> None:
    by = given.person()
    path = f"/api/customers/{given.customer(by)['id']}/focus"
    with subscribed(given.person()) as stream:
        by.put(path, {})
        stream.wait_for("focus", by.id)
        by.delete(path)
        stream.wait_for("focus", by.id, times=2)


class Tenant:
    """A customer with a user and an admin who subscribe, and with tasks and bills."""

    def __init__(self, given: Given, admin: Person, by: Person) -> None:
        self.customer = given.customer(admin)
        self.people = [given.person(role, self.customer["id"]) for role in ("customer_user", "customer_admin")]
        self.kept, self.leaving, self.doomed = (given.task(by, self.customer) for _ in range(3))
        self.draft = given.bill(by, self.kept, start="2026-03-04T09:00:00Z")["id"]
        self.approved = given.bill(by, self.kept, start="2026-03-03T09:00:00Z")["id"]
        self.reopened = given.approved_bill(by, admin, self.leaving)["id"]
        self.ids = {self.customer["id"], *(task["id"] for task in (self.kept, self.leaving, self.doomed))}
        self.ids |= {self.draft, self.approved, self.reopened, *(person.id for person in self.people)}


def test_a_customers_users_receive_only_their_own_tasks_and_approved_bills(given: Given, stint: Installation) -> None:
    admin, by = given.admin(), given.person()
    own, other = Tenant(given, admin, by), Tenant(given, admin, by)
    given.settled()
    with ExitStack() as stack:
        streams = {tenant: [stack.enter_context(subscribed(person)) for person in tenant.people] for tenant in (own, other)}
        inside = [stack.enter_context(subscribed(person)) for person in (admin, by, given.person("none"))]

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
        markers = {tenant: wait_for_all_changes(given, by, tenant.kept, *streams[tenant], *inside) for tenant in (own, other)}

        for tenant, elsewhere in ((own, other), (other, own)):
            expected = markers[tenant] | {
                RESET,
                ("task", tenant.kept["id"]),
                ("task", tenant.leaving["id"]),  # it has left this customer
                ("task", tenant.doomed["id"]),
                ("task", elsewhere.leaving["id"]),  # it has moved to this customer
                ("timeBill", tenant.approved),
                ("timeBill", tenant.reopened),
            }
            for stream in streams[tenant]:
                assert set(stream.events) == expected
                received = {row_id for _, row_id in stream.events}
                assert received & elsewhere.ids == {elsewhere.leaving["id"]}
            for stream in inside:
                assert expected | {("timeBill", tenant.draft), ("focus", by.id), ("activeTimer", by.id)} <= set(stream.events)
                assert {kind for kind, _ in stream.events} <= {"reset", "task", "timeBill", "activeTimer", "focus"}


def test_a_reopened_bill_sends_its_customer_one_event_and_no_more_until_it_is_approved(given: Given) -> None:
    admin, by = given.admin(), given.person()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task)
    user = given.person("customer_user", task["customerId"])
    with caught_up(given, by, task, user) as stream:
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": "pending"})
        stream.wait_for("timeBill", bill["id"])
        problem(user.http.get(f"/api/time-bills/{bill['id']}"), 404)
        by.patch(f"/api/time-bills/{bill['id']}", {"memo": "still at it"})
        wait_for_all_changes(given, by, task, stream)
        assert stream.events.count(("timeBill", bill["id"])) == 1
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})
        stream.wait_for("timeBill", bill["id"], times=2)


def test_a_task_that_has_left_a_customer_sends_its_users_no_more_events(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    stays = given.task(by, {"id": task["customerId"]})
    with caught_up(given, by, stays, given.person("customer_user", task["customerId"])) as stream:
        by.put(f"/api/tasks/{task['id']}", {"customerId": given.customer(by)["id"]})
        stream.wait_for("task", task["id"])
        renamed(by, task)
        wait_for_all_changes(given, by, stays, stream)
        assert stream.events.count(("task", task["id"])) == 1


def test_a_change_that_commits_late_is_received_and_other_changes_only_once(given: Given, stint: Installation) -> None:
    by = given.person()
    late, task = given.task(by), given.task(by)
    with caught_up(given, by, task, given.person()) as stream:
        with psycopg.connect(stint.database_url) as conn:
            conn.execute("UPDATE tasks SET title = 'late' WHERE id = %s", (late["id"],))
            for number in range(1, 4):
                renamed(by, task)
                stream.wait_for("task", task["id"], times=number)
            time.sleep(2.5)  # some polls while that transaction is open
            assert ("task", late["id"]) not in stream.events
            conn.commit()
        stream.wait_for("task", late["id"])
        wait_for_all_changes(given, by, task, stream)
        assert stream.events.count(("task", late["id"])) == 1
        assert stream.events.count(("task", task["id"])) == 3


def test_a_change_that_is_rolled_back_is_not_sent(given: Given, stint: Installation) -> None:
    by = given.person()
    undone, task = given.task(by), given.task(by)
    with caught_up(given, by, task, given.person()) as stream:
        with psycopg.connect(stint.database_url) as conn:
            conn.execute("UPDATE tasks SET title = 'undone' WHERE id = %s", (undone["id"],))
            conn.rollback()
        wait_for_all_changes(given, by, task, stream)
        assert ("task", undone["id"]) not in stream.events


def test_every_api_process_sends_events_to_its_own_streams(given: Given, another: Another) -> None:
    by, listener = given.person(), given.person()
    second = another(STINT_HEARTBEAT_SECONDS="0.2")
    with subscribed(listener) as here, subscribed(listener, second.url) as there:
        task = given.task(by)
        with at(second, by.token) as client:
            stop = client.post(f"/api/tasks/{task['id']}/start")
        assert stop.status_code == 201
        for stream in (here, there):
            stream.wait_for("task", task["id"])
            stream.wait_for("activeTimer", by.id)


def test_more_than_a_thousand_changes_at_once_are_a_reset(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with caught_up(given, by, task, by) as stream:
        for count, resets in ((1_000, 0), (1_001, 1)):
            stint.rows(
                """
                INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
                SELECT gen_random_uuid(), 'imported', %s, %s, '', %s FROM generate_series(1, %s) RETURNING id
                """,
                task["customerId"], task["pillarId"], by.id, count,
            )  # fmt: skip
            eventually(lambda resets=resets, count=count: stream.resets == resets and (resets or len(stream.events) >= count))
        assert len(set(stream.events)) == 1_000 + 1
