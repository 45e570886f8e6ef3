"""A request that is cancelled at any await leaves nothing behind in its process: no connection, no bulk slot, no subscriber."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.auth import leases
from schemas.identity import users
from schemas.identity.users import FoundUser
from schemas.postgres import pool
from schemas.postgres.connection import Connection
from schemas.postgres.pool import POOL_SIZE
from tests.support.cancellation import WAYS, Way, cancel_at_every_point
from tests.support.given import Given, Json, Person
from tests.support.in_process import Exchange, InProcess, in_process, json_exchange
from tests.support.installation import Installation

Requests = Callable[[Person, Json], Callable[[], Exchange]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for its connection until `nothing_is_left` gives up, not only the five seconds after which it is 503: a
    busy machine may need them to make sixteen connections, and a connection that is lost never comes."""
    monkeypatch.setattr(pool, "BUSY_SECONDS", 60.0)


def request(method: str, path: str, body: Callable[[Json], Any] = lambda task: None) -> Requests:
    """Requests of that kind, each with a body of its own."""

    def requests(by: Person, task: Json) -> Callable[[], Exchange]:
        return lambda: json_exchange(method, path.format(task=task["id"]), token=by.token, body=body(task))

    return requests


def new_task(task: Json) -> Json:
    return {"id": str(uuid4()), "title": "Cancelled", "customerId": task["customerId"]}


def operations(task: Json) -> Json:
    put = {"opId": str(uuid4()), "kind": "task.put", "data": new_task(task)}
    return {"operations": [put, put | {"opId": str(uuid4()), "data": new_task(task)}]}


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The users that authorization has read. There are no leases, so that each repetition of a request reads its user again,
    and is cancelled there, too."""
    found: list[UUID] = []

    async def find_user(conn: Connection, user_id: UUID, customer_id: UUID | None) -> FoundUser:
        found.append(user_id)
        return await read(conn, user_id, customer_id)

    read = users.find_user
    monkeypatch.setattr(users, "find_user", find_user)
    monkeypatch.setattr(leases, "MAX_AGE_SECONDS", 0.0)
    return found


REQUESTS: dict[str, Requests] = {
    "a list": request("GET", "/api/tasks?limit=2"),
    "a write": request("POST", "/api/tasks", new_task),
    "a start": request("POST", "/api/tasks/{task}/start"),
    "a sync push": request("POST", "/api/sync", operations),
    "readiness": request("GET", "/health/ready"),
    "a request without its body": lambda by, task: (
        lambda: Exchange("POST", "/api/tasks", headers={"Authorization": f"Bearer {by.token}"})
    ),
}


async def nothing_is_left(api: InProcess, by: Person) -> None:
    """Four times as many requests as there are bulk slots, and twice as many as there are connections, all at once."""
    lists = [json_exchange("GET", "/api/tasks?limit=1", token=by.token) for _ in range(2 * POOL_SIZE)]
    pushes = [json_exchange("POST", "/api/sync", token=by.token, body={"operations": []}) for _ in range(POOL_SIZE)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(api.request(exchange) for exchange in lists + pushes))
    assert {exchange.status for exchange in lists + pushes} == {200}, [exchange.content for exchange in lists + pushes]
    # what is still being given back is not lost: on a busy machine a read of the metrics that took too long ends after its
    # answer. What is lost stays so.
    for _ in range(50):
        left = await what_is_left(api)
        if not any(left.values()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(left)


async def what_is_left(api: InProcess) -> dict[str, float]:
    """The connections that are not idle, the requests that wait for one, and the subscribers, by the names of their metrics."""
    names = ["stint_listeners"]
    for name in ("queued", "unqueued"):
        names += [f'stint_connections{{pool="{name}",process="1",state="{state}"}}' for state in ("in_use", "missing")]
        names.append(f'stint_connection_waits{{pool="{name}",process="1"}}')
    metrics = await api.metrics()
    return {name: metrics[name] for name in names}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_is_cancelled_at_any_point_leaves_nothing(
    kind: str, way: Way, stint: Installation, given: Given, reads: list[UUID]
) -> None:
    by = given.person()
    new = REQUESTS[kind](by, given.task(by))

    async def main() -> None:
        async with in_process(stint.settings) as api:
            points = await cancel_at_every_point(lambda: api.request(new()), way)
            assert points >= 1
            assert kind == "readiness" or len(reads) > points / 2  # the others were cancelled before
            await nothing_is_left(api, by)

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_that_waits_for_its_outcome_leaves_nothing(way: Way, stint: Installation, given: Given) -> None:
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    by.post(f"/api/tasks/{task['id']}/stop", status=202)  # each of the following gets the same answer

    async def main() -> None:
        async with in_process(stint.settings) as api:
            await cancel_at_every_point(
                lambda: api.request(json_exchange("POST", f"/api/tasks/{task['id']}/stop?wait=5", token=by.token)), way
            )
            await nothing_is_left(api, by)

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("disconnects_first", [False, True])
def test_a_stream_of_live_events_leaves_nothing(
    way: Way,
    disconnects_first: bool,
    stint: Installation,
    given: Given,
) -> None:
    by = given.person()

    async def main() -> None:
        async with in_process(stint.settings) as api:

            def stream() -> Any:
                exchange = json_exchange("GET", "/api/events", token=by.token)
                if disconnects_first:
                    exchange.disconnected.set()
                else:
                    asyncio.get_running_loop().call_later(0.05, exchange.disconnected.set)
                return api.request(exchange)

            assert await cancel_at_every_point(stream, way) >= 3
            await nothing_is_left(api, by)

    asyncio.run(main())
