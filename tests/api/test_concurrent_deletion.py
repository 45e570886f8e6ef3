"""Deleting a customer or a pillar concurrently with requests that add hours."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import httpx2
import pytest

from schemas.customers import tasks
from schemas.customers.tasks import NewTask
from schemas.hours import timer_stops, timers
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection, connect
from tests.api.deletion_target import KINDS, Target
from tests.support.answers import problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, given: Given) -> Target:
    return Target(request.param, given, given.person())


def as_user(by: Person) -> User:
    return User(id=UUID(by.id), email=by.email, name="", role=Role.internal, customer_id=None)


def deleted_while(stint: Installation, target: Target, work: Callable[[Connection], Any]) -> httpx2.Response:
    """The answer to a deletion that starts after the work in a transaction, and before its commit."""

    async def run(pool: ThreadPoolExecutor) -> "Future[httpx2.Response]":
        async with await connect(stint.settings) as conn, conn.transaction():
            await work(conn)
            answer = pool.submit(target.delete)
            eventually(lambda: answer.done() or stint.blocked() > 0)
        return answer

    with ThreadPoolExecutor(1) as pool:
        return asyncio.run(run(pool)).result()


def test_a_task_that_is_created_concurrently_is_deleted_or_moved_too(target: Target, stint: Installation, given: Given) -> None:
    new = NewTask.model_validate({"id": given.new_id(), "title": "A", "customerId": target.customer["id"], **target.more})

    answer = deleted_while(stint, target, lambda conn: tasks.create(conn, new, by=as_user(target.by)))

    assert answer.status_code == 204, answer.text
    task = target.by.http.get(f"/api/tasks/{new.id}")
    if target.kind == "customer":
        problem(task, 404)
    else:
        assert task.json()["pillarId"] != target.more["pillarId"]


def test_a_task_that_moves_there_concurrently_is_deleted_or_moved_too(
    target: Target, stint: Installation, given: Given
) -> None:
    task = given.task(target.by)
    patch = tasks.TaskChange.model_validate({"customerId": target.customer["id"], **target.more})

    def move(conn: Connection) -> Any:
        return tasks.change(conn, UUID(task["id"]), patch, by=as_user(target.by))

    assert deleted_while(stint, target, move).status_code == 204
    if target.kind == "customer":
        problem(target.by.http.get(f"/api/tasks/{task['id']}"), 404)
    else:
        assert target.by.get(f"/api/tasks/{task['id']}")["pillarId"] != target.more["pillarId"]


def test_a_timer_that_is_started_concurrently_forbids_the_deletion(target: Target, stint: Installation) -> None:
    task = UUID(target.task()["id"])
    answer = deleted_while(stint, target, lambda conn: timers.start(conn, task, user_id=UUID(target.by.id)))
    assert problem(answer, 409)["references"]["timers"] == [target.by.id]


def test_a_timer_that_is_stopped_concurrently_forbids_the_deletion(target: Target, stint: Installation) -> None:
    task = target.task()
    target.by.post(f"/api/tasks/{task['id']}/start")
    answer = deleted_while(stint, target, lambda conn: timer_stops.stop(conn, UUID(task["id"]), user_id=UUID(target.by.id)))
    problem(answer, 409)
    target.given.settled()
    assert target.by.get("/api/time-entries", taskId=task["id"])["items"]


def run_concurrently(acts: list[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
    barrier = Barrier(len(acts))

    def wait_and_run(act: Callable[[], httpx2.Response]) -> httpx2.Response:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(wait_and_run, acts))


def delete_with_concurrent_work(target: Target, worker: Person, *, stopping: bool, starting: bool) -> list[httpx2.Response]:
    """Deletes the target concurrently with everything that adds work. Returns the answer to the deletion, then the others."""
    by, here, coming = target.by, [target.task() for _ in range(3)], target.given.task(target.by)
    there = {"customerId": target.customer["id"], **target.more}
    acts: list[Callable[[], httpx2.Response]] = [
        target.delete,
        lambda: by.http.post("/api/tasks", json={"title": "A", **there}),
        lambda: by.http.put(f"/api/tasks/{coming['id']}", json=there),
        lambda: by.http.put(f"/api/tasks/{here[0]['id']}", json={"pillarId": None}),
    ]
    if stopping:
        worker.post(f"/api/tasks/{here[1]['id']}/start")
        acts.append(lambda: worker.http.post(f"/api/tasks/{here[1]['id']}/stop"))
    if starting:
        acts.append(lambda: by.http.post(f"/api/tasks/{here[2]['id']}/start"))
    answers = run_concurrently(acts)
    by.http.delete("/api/active-timers/me")
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_with_concurrent_work_leaves_no_live_task_and_loses_no_hours(
    kind: str, given: Given, stint: Installation
) -> None:
    by, worker = given.people(2)
    answers = [
        delete_with_concurrent_work(Target(kind, given, by), worker, stopping=number % 3 == 0, starting=number % 3 == 1)
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
