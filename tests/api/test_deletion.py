"""Customers and pillars are deleted only when no hours refer to them, nor the promise of some; whatever happens beside it."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import httpx
import pytest

from schemas import tasks, timers
from schemas.database import Connection, connect
from schemas.tasks import NewTask
from schemas.users import Role, User
from tests.api.answers import Json, problem, refused_fields
from tests.given import Given, Person
from tests.installation import Installation, eventually

KINDS = ["customer", "pillar"]


class Place:
    """A customer, or a pillar beside its default one, that is to be deleted."""

    def __init__(self, kind: str, given: Given, by: Person) -> None:
        self.kind, self.given, self.by = kind, given, by
        self.customer = given.customer(by)
        self.path = f"/api/customers/{self.customer['id']}"
        self.more: Json = {}
        if kind == "pillar":
            pillar = by.post(f"{self.path}/pillars", {"name": "Hosting"})
            self.path += f"/pillars/{pillar['id']}"
            self.more = {"pillarId": pillar["id"]}

    def task(self) -> Json:
        return self.given.task(self.by, self.customer, **self.more)

    def delete(self) -> httpx.Response:
        return self.by.http.delete(self.path)

    def refused(self) -> Json:
        """What refers to it, without the kinds of which there is none."""
        body = problem(self.delete(), 409)
        assert body["detail"].startswith(f"This {self.kind} can't be deleted: ")
        return {kind: ids for kind, ids in body["references"].items() if ids}


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, given: Given) -> Place:
    return Place(request.param, given, given.person())


@pytest.fixture
def waiting(idle: Installation) -> Iterator[Given]:
    """Where no stop ever becomes an entry."""
    made = Given(idle)
    yield made
    made.close()


def test_a_deleted_customer_takes_everything_along(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    task, other = given.task(by, customer, pillarId=pillar["id"]), given.task(by)
    user, admin = given.person("customer_user", customer["id"]), given.person("customer_admin", customer["id"])
    by.http.put(f"/api/customers/{customer['id']}/focus")
    since = by.get("/api/tasks", limit=1)["syncTimestamp"]

    by.delete(f"/api/customers/{customer['id']}")

    for path in (f"customers/{customer['id']}", f"tasks/{task['id']}", f"customers/{customer['id']}/pillars/{pillar['id']}"):
        problem(by.http.get(f"/api/{path}"), 404)
    assert {"id": task["id"], "deleted": True} in by.get("/api/tasks", lastSyncTimestamp=since)["items"]
    assert customer["id"] not in by.http.get("/api/customers", params={"limit": 1000}).text
    assert customer["id"] not in by.http.get("/api/focus").text
    for person in (user, admin):
        problem(person.http.get("/api/me"), 401)  # at once
    for table in ("tasks", "pillars"):
        left = stint.rows(f"SELECT id FROM {table} WHERE customer_id = %s AND deleted_at IS NULL", customer["id"])
        assert left == [], table
    assert by.get(f"/api/tasks/{other['id']}") == other
    stint.verify()


def test_who_became_one_of_the_firms_own_people_keeps_access(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    once = given.person("customer_user", customer["id"])
    now = given.person("internal_user", email=once.email)
    by.delete(f"/api/customers/{customer['id']}")
    assert now.get("/api/me")["role"] == "internal"


def test_nothing_can_be_put_on_a_deleted_customer(given: Given) -> None:
    by = given.person()
    gone, here = given.customer(by), given.customer(by)
    task, moving = given.task(by, gone), given.task(by, here)
    by.delete(f"/api/customers/{gone['id']}")

    new = {"title": "Late", "customerId": gone["id"]}
    assert refused_fields(by.http.post("/api/tasks", json=new)) == ["customerId"]
    assert refused_fields(by.http.put(f"/api/tasks/{moving['id']}", json={"customerId": gone["id"]})) == ["customerId"]
    problem(by.http.put(f"/api/tasks/{task['id']}", json={"customerId": here["id"]}), 404)
    problem(by.http.post(f"/api/tasks/{task['id']}/start"), 404)
    assert refused_fields(by.http.put("/api/active-timers/me", json={"taskId": task["id"]})) == ["taskId"]
    entry = {"taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "duration": 60}
    assert refused_fields(by.http.post("/api/time-entries", json=entry)) == ["taskId"]
    problem(by.http.post(f"/api/customers/{gone['id']}/pillars", json={"name": "Hosting"}), 404)
    problem(by.http.get(f"/api/customers/{gone['id']}/pillars"), 404)
    problem(by.http.put(f"/api/customers/{gone['id']}/focus"), 404)


def test_a_deleted_customers_id_is_not_given_again(given: Given) -> None:
    by = given.person()
    body = {"id": given.new_id(), "name": "Acme"}
    by.post("/api/customers", body)
    by.delete(f"/api/customers/{body['id']}")
    problem(by.http.post("/api/customers", json=body), 409)


def test_a_pillars_tasks_move_to_the_default_pillar(given: Given, stint: Installation) -> None:
    by = given.person()
    place = Place("pillar", given, by)
    tasks_there = [place.task(), place.task()]
    default = given.task(by, place.customer)["pillarId"]

    assert place.delete().status_code == 204

    for task in tasks_there:
        moved = by.get(f"/api/tasks/{task['id']}")
        assert moved == task | {"pillarId": default, "version": 2, "updatedAt": moved["updatedAt"]}
    problem(by.http.get(place.path), 404)
    problem(place.delete(), 404)
    by.post(f"/api/customers/{place.customer['id']}/pillars", {"name": "hosting"})  # the name is free again
    stint.verify()


def test_hours_still_to_follow_a_task_follow_it_off_the_pillar(waiting: Given, idle: Installation) -> None:
    """The task has come onto the pillar, its entries not yet: they go where it goes then."""
    by = waiting.person()
    place = Place("pillar", waiting, by)
    task = waiting.task(by, place.customer)
    entry = waiting.logged(by, task)
    by.put(f"/api/tasks/{task['id']}", place.more)
    idle.rows("UPDATE messages SET state = 'done', done_at = now() WHERE actor = 'move_entries' RETURNING id")

    assert place.delete().status_code == 204

    promised = idle.rows("SELECT body FROM messages WHERE actor = 'move_entries' AND state = 'ready'")
    assert [body["task_id"] for (body,) in promised if body["task_id"] == task["id"]] == [task["id"]]
    assert by.get(f"/api/tasks/{task['id']}")["pillarId"] == entry["pillarId"]


@pytest.mark.parametrize("status", ["pending", "rejected", "approved"])
def test_a_time_bill_is_in_the_way(status: str, place: Place, given: Given) -> None:
    bill, admin = given.bill(place.by, place.task()), given.admin()
    if status != "pending":
        more = {"rejectionNote": "why"} if status == "rejected" else {}
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": status} | more)
    assert place.refused() == {"timeBills": [bill["id"]]}


def test_a_running_timer_is_in_the_way(place: Place) -> None:
    task = place.task()
    place.by.post(f"/api/tasks/{task['id']}/start")
    assert place.refused() == {"timers": [place.by.id]}
    place.by.delete("/api/active-timers/me")
    assert place.delete().status_code == 204


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["ready", "sent", "dead", "discarded"])
def test_a_stop_that_is_no_entry_yet_is_in_the_way(kind: str, state: str, waiting: Given, idle: Installation) -> None:
    place = Place(kind, waiting, waiting.person())
    task = place.task()
    place.by.post(f"/api/tasks/{task['id']}/start")
    place.by.post(f"/api/tasks/{task['id']}/stop", status=202)
    changed = idle.rows(
        "UPDATE messages SET state = %s, sent_at = now() WHERE body->>'task_id' = %s RETURNING id::text", state, task["id"]
    )
    assert place.refused() == {"unfinishedStops": [changed[0][0]]}
    # of an earlier stop there is only the message
    place.by.post(f"/api/tasks/{task['id']}/start")
    place.by.delete("/api/active-timers/me")
    assert place.refused() == {"unfinishedStops": [changed[0][0]]}


def test_an_entry_without_a_bill_is_in_the_way(place: Place, given: Given, stint: Installation) -> None:
    entry = given.logged(place.by, place.task())
    given.settled()
    with stint.sql() as conn:
        conn.execute("UPDATE time_entries SET bill_id = NULL WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET seconds = 0 WHERE id = %s", (entry["timeBillId"],))
    try:
        assert place.refused() == {"timeEntries": [entry["id"]]}
    finally:
        given.admin().post("/api/time-bills/recompute", {"userId": place.by.id}, status=202)
        given.settled()


def test_hours_still_to_follow_their_task_to_a_customer_are_in_the_way(waiting: Given) -> None:
    by = waiting.person()
    place, task = Place("customer", waiting, by), waiting.task(by)
    entry = waiting.logged(by, task)
    by.put(f"/api/tasks/{task['id']}", {"customerId": place.customer["id"]})
    assert place.refused() == {"timeEntries": [entry["id"]]}


def test_a_bill_that_nothing_is_on_any_more_goes_along(place: Place, given: Given, stint: Installation) -> None:
    moved, task = place.task(), place.task()
    given.logged(place.by, moved)
    deleted = given.logged(place.by, task, start="2026-03-03T09:00:00Z")
    given.settled()
    place.by.put(f"/api/tasks/{moved['id']}", {"customerId": given.customer(place.by)["id"]})
    place.by.delete(f"/api/time-entries/{deleted['id']}")
    given.settled()

    assert place.delete().status_code == 204

    bills = place.by.get("/api/time-bills", userId=place.by.id)["items"]
    assert [bill["customerId"] for bill in bills] != [] and place.customer["id"] not in [bill["customerId"] for bill in bills]
    stint.verify()


# --- beside each other -----------------------------------------------------------------------------------------------


def as_user(by: Person) -> User:
    return User(id=UUID(by.id), email=by.email, name="", role=Role.internal, customer_id=None)


def deleted_while(stint: Installation, place: Place, work: Callable[[Connection], Any]) -> httpx.Response:
    """The answer to a deletion that begins after the work is done in a transaction, and before that is committed."""

    async def run(pool: ThreadPoolExecutor) -> "Future[httpx.Response]":
        async with await connect(stint.settings) as conn, conn.transaction():
            await work(conn)
            answer = pool.submit(place.delete)
            eventually(lambda: answer.done() or stint.blocked() > 0)
        return answer

    with ThreadPoolExecutor(1) as pool:
        return asyncio.run(run(pool)).result()


def test_a_task_that_is_just_being_created_goes_along(place: Place, stint: Installation, given: Given) -> None:
    new = NewTask.model_validate({"id": given.new_id(), "title": "A", "customerId": place.customer["id"], **place.more})

    answer = deleted_while(stint, place, lambda conn: tasks.create(conn, new, by=as_user(place.by)))

    assert answer.status_code == 204, answer.text
    task = place.by.http.get(f"/api/tasks/{new.id}")
    if place.kind == "customer":
        problem(task, 404)
    else:
        assert task.json()["pillarId"] != place.more["pillarId"]


def test_a_task_that_is_just_moving_there_goes_along(place: Place, stint: Installation, given: Given) -> None:
    task = given.task(place.by)
    wanted = tasks.TaskChange.model_validate({"customerId": place.customer["id"], **place.more})

    def move(conn: Connection) -> Any:
        return tasks.change(conn, UUID(task["id"]), wanted, by=as_user(place.by))

    assert deleted_while(stint, place, move).status_code == 204
    if place.kind == "customer":
        problem(place.by.http.get(f"/api/tasks/{task['id']}"), 404)
    else:
        assert place.by.get(f"/api/tasks/{task['id']}")["pillarId"] != place.more["pillarId"]


def test_a_timer_that_is_just_being_started_is_in_the_way(place: Place, stint: Installation) -> None:
    task = UUID(place.task()["id"])
    answer = deleted_while(stint, place, lambda conn: timers.start(conn, task, user_id=UUID(place.by.id)))
    assert problem(answer, 409)["references"]["timers"] == [place.by.id]


def test_a_timer_that_is_just_being_stopped_is_in_the_way(place: Place, stint: Installation) -> None:
    task = place.task()
    place.by.post(f"/api/tasks/{task['id']}/start")
    answer = deleted_while(stint, place, lambda conn: timers.stop(conn, UUID(task["id"]), user_id=UUID(place.by.id)))
    problem(answer, 409)
    place.given.settled()
    assert place.by.get("/api/time-entries", taskId=task["id"])["items"]


def at_the_same_moment(acts: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    barrier = Barrier(len(acts))

    def together(act: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(together, acts))


def deleted_beside_work(place: Place, worker: Person, *, stopping: bool, starting: bool) -> list[httpx.Response]:
    """A deletion at the same moment as everything that brings work: its answer, then the others'."""
    by, here, coming = place.by, [place.task() for _ in range(3)], place.given.task(place.by)
    there = {"customerId": place.customer["id"], **place.more}
    acts: list[Callable[[], httpx.Response]] = [
        place.delete,
        lambda: by.http.post("/api/tasks", json={"title": "A", **there}),
        lambda: by.http.put(f"/api/tasks/{coming['id']}", json=there),
        lambda: by.http.put(f"/api/tasks/{here[0]['id']}", json={"pillarId": None}),
    ]
    if stopping:
        worker.post(f"/api/tasks/{here[1]['id']}/start")
        acts.append(lambda: worker.http.post(f"/api/tasks/{here[1]['id']}/stop"))
    if starting:
        acts.append(lambda: by.http.post(f"/api/tasks/{here[2]['id']}/start"))
    answers = at_the_same_moment(acts)
    by.http.delete("/api/active-timers/me")
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_deleting_beside_work_leaves_no_live_task_and_loses_no_hour(kind: str, given: Given, stint: Installation) -> None:
    by, worker = given.people(2)
    answers = [
        deleted_beside_work(Place(kind, given, by), worker, stopping=number % 3 == 0, starting=number % 3 == 1)
        for number in range(12)
    ]
    given.settled()

    assert {first.status_code for first, *_ in answers} == {204, 409}
    others = [answer for _, *others in answers for answer in others]
    assert {answer.status_code for answer in others} <= {200, 201, 202, 404, 422}, [answer.text for answer in others]
    gone, key = ("customers", "customer_id") if kind == "customer" else ("pillars", "pillar_id")
    live = f"SELECT t.id FROM tasks t JOIN {gone} g ON g.id = t.{key} WHERE t.deleted_at IS NULL AND g.deleted_at IS NOT NULL"
    assert stint.rows(live) == []
    for answer in others:
        if answer.status_code == 202:
            entry = by.get(f"/api/time-entries/{answer.json()['entryId']}")
            assert by.http.get(f"/api/customers/{entry['customerId']}").status_code == 200
    stint.verify()
