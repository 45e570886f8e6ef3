"""Commands from Slack that are cancelled, by their deadline or at any await, leave all connections to those that follow."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from schemas.postgres.pool import UNQUEUED_SIZE
from tests.support.cancellation import WAYS, Way, cancel_at_every_point
from tests.support.in_process import Exchange, InProcess, in_process
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member

AWAY, BUSY = "Sorry, Stint can't reach its database", "Sorry, Stint is busy"
COMMANDS, AT_ONCE = 300, 50


def command(member: Member, text: str) -> Exchange:
    sent = member.command_request(text)
    return Exchange("POST", sent.path, sent.body, sent.headers)


async def all_answer(api: InProcess, member: Member) -> None:
    """More commands at once than there are connections for Slack. A machine that stalls for two seconds answers some of them
    with an apology, and the next ones without; lost connections would answer with an apology always."""
    async with asyncio.timeout(60):
        apologized = True
        while apologized:
            commands = [command(member, "status") for _ in range(2 * UNQUEUED_SIZE)]
            await asyncio.gather(*(api.request(each) for each in commands))
            assert {each.status for each in commands} == {200}
            apologized = any(b"Sorry" in each.content for each in commands)
    metrics = await api.metrics()
    for state in ("in_use", "missing"):
        assert metrics[f'stint_connections{{pool="unqueued",process="1",state="{state}"}}'] == 0
    assert metrics['stint_connection_waits{pool="unqueued",process="1"}'] == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["status", "Migrate the mail server"])
def test_a_command_that_is_cancelled_at_any_point_leaves_nothing(
    text: str, way: Way, stint: Installation, member: Member
) -> None:
    member.run_command("status")  # Stint knows the member from now on

    async def main() -> None:
        async with in_process(stint.settings) as api:
            assert await cancel_at_every_point(lambda: api.request(command(member, text)), way) >= 1
            await all_answer(api, member)

    asyncio.run(main())


@contextmanager
def users_locked_now_and_then(stint: Installation) -> Iterator[None]:
    """Statements take longer than the deadline, again and again."""
    ended = threading.Event()

    def lock() -> None:
        with stint.sql() as conn:
            while not ended.wait(0.1):
                with conn.transaction():
                    conn.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                    ended.wait(0.6)

    thread = threading.Thread(target=lock)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.exclusive
def test_300_commands_at_50_at_once_that_are_cancelled_leave_all_well(stint: Installation, member: Member) -> None:
    busy = Installation(stint.database_url, stint.amqp_url, stint.directory / "busy", **stint.environment)
    busy.directory.mkdir()
    busy.environment["STINT_CONNECT_SECONDS"] = "0.05"  # of the deadline; with the whole of it each command would take 2 s
    order = random.Random(16)
    answers: list[str] = []

    async def send(http: httpx2.AsyncClient, places: asyncio.Semaphore) -> None:
        sent = member.command_request("status")
        async with places:
            # Slack closes the connection after 3 s; some clients do earlier
            with suppress(TimeoutError):
                async with asyncio.timeout(order.choice([0.05, 0.5, 3])):
                    answer = await http.post(sent.path, content=sent.body, headers=sent.headers)
                    answers.append(answer.json()["text"])

    async def main() -> None:
        limits = httpx2.Limits(max_connections=AT_ONCE)
        async with httpx2.AsyncClient(base_url=busy.url, limits=limits, timeout=10) as http:
            places = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(send(http, places) for _ in range(COMMANDS)))

    def is_quiet() -> bool:
        text = httpx2.get(f"{busy.url}/metrics").text
        which = 'pool="unqueued",process="1"'
        lines = (f'connections{{{which},state="in_use"}} 0.0', f'connections{{{which},state="missing"}} 0.0')
        return all(f"stint_{line}\n" in text for line in (*lines, f"connection_waits{{{which}}} 0.0"))

    try:
        busy.start("api").wait_until_ready()
        member.run_command("status")
        with users_locked_now_and_then(busy):
            asyncio.run(main())
        assert any(text.startswith(BUSY) for text in answers), answers  # the test has met a deadline
        assert not any(text.startswith(AWAY) for text in answers), answers  # Postgres was never away
        eventually(is_quiet, seconds=10, why="all connections are back")
        assert httpx2.get(f"{busy.url}/health/ready").status_code == 200
        asked = Member(member.slack, busy, member.id, member.channel)
        for _ in range(2 * UNQUEUED_SIZE):
            assert "Sorry" not in asked.run_command("status")["text"]
    finally:
        busy.stop()
