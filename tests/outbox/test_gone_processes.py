"""A process that ends without telling is missed until another one takes its place, and one that ends as it should is not."""

import asyncio
import time

import pytest

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.outbox import heartbeats, metrics
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.outbox.rows import over
from tests.support.installation import SECRET_KEY, new_database
from tests.support.silent import silent_server


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def beat(
    conn: Connection, process: str, kind: str = "work", *queues: str, age: float | None = None, started: float | None = None
) -> None:
    """A heartbeat of a process that was just started; with `age`, as many seconds ago, of one that was started `started`
    seconds ago, an hour if that is not told."""
    before = started or (0.0 if age is None else 3_600.0)
    await heartbeats.beat(conn, process=process, kind=kind, queues=list(queues), started=time.monotonic() - before)
    await conn.execute(
        "UPDATE heartbeats SET seen_at = seen_at - make_interval(secs => %s), backend_pid = NULL WHERE process = %s",
        (age or 0.0, process),
    )


async def gone(conn: Connection) -> list[str]:
    return sorted(each.process for each in await heartbeats.processes(conn) if each.gone)


async def said(conn: Connection) -> list[str]:
    status = InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn))
    return [each.what for each in diagnose(status) if "are gone" in each.what]


def test_a_process_is_missed_until_one_of_its_kind_for_its_queues_is_started(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "work", "mail", age=15)
        assert await gone(conn) == [], "it may still send one"
        await beat(conn, "a:1", "work", "mail", age=20)
        await beat(conn, "a:2", "work", "mail", age=20)
        assert await gone(conn) == ["a:1", "a:2"]
        await beat(conn, "b:1", "work", "bills")
        await beat(conn, "b:2", "relay")
        assert await gone(conn) == ["a:1", "a:2"], "these do other work"
        for _ in range(2):
            await beat(conn, "b:3", "work", "mail")
            assert await gone(conn) == ["a:1"], "one replaces one"
        await beat(conn, "a:3", "work", "mail")
        assert await gone(conn) == []
        await beat(conn, "a:3", "work", "mail", age=17, started=19)
        assert await gone(conn) == ["a:1"], "what replaced one is gone as well, and two were there before"
        await beat(conn, "a:3", "work", "mail", age=1, started=19)
        assert await gone(conn) == [], "it was only silent"

    over(url, look)


def test_a_process_that_is_killed_again_and_again_is_replaced_by_its_last_start(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "relay", age=23)
        await beat(conn, "a:2", "relay", age=20, started=21)
        await beat(conn, "a:3", "relay", age=17, started=18)
        assert await gone(conn) == ["a:3"], "one was there"
        await beat(conn, "a:4", "relay", started=14)
        assert await gone(conn) == [], "also while the others had been silent for less than 16 s when it was started"

    over(url, look)


def test_the_host_that_has_started_none_is_named(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "relay", age=30)
        await beat(conn, "b:1", "relay", age=20)
        await beat(conn, "a:2", "relay", age=1, started=10)
        assert await gone(conn) == ["b:1"]

    over(url, look)


def test_what_was_started_before_replaces_nothing(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "relay", age=20)
        await beat(conn, "b:1", "relay", age=0)
        assert await gone(conn) == ["a:1"]
        assert 'stint_gone{kind="relay"} 1' in await metrics.metrics(conn)

    over(url, look)


def test_who_ends_as_it_should_is_not_missed_nor_alive_nor_who_never_tells(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "process_name", lambda: "a:1")

    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "api")
        await heartbeats.say_goodbye(Settings(database_url=url, secret_key=SECRET_KEY))
        [ended] = await heartbeats.processes(conn)
        assert (ended.alive, ended.frozen, ended.gone) == (False, False, False)
        await conn.execute("UPDATE heartbeats SET seen_at = seen_at - interval '20 seconds'")
        assert await gone(conn) == []
        # the version before has only these columns, and may have the same name in a container
        await conn.execute("UPDATE heartbeats SET seen_at = clock_timestamp()")
        [again] = await heartbeats.processes(conn)
        assert again.alive
        await conn.execute("UPDATE heartbeats SET ended_at = NULL, seen_at = seen_at - interval '20 seconds'")
        assert await gone(conn) == []

    over(url, look)


def test_an_end_waits_two_seconds_at_most_for_postgres() -> None:
    with silent_server() as server:
        for port in (1, server.port):
            away = Settings(database_url=f"postgresql://stint@127.0.0.1:{port}/x", secret_key=SECRET_KEY)
            began = time.monotonic()
            asyncio.run(heartbeats.say_goodbye(away))
            assert time.monotonic() - began < heartbeats.GOODBYE_SECONDS + 1


def test_the_finding_is_of_the_host_and_says_how_it_ends(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "relay", age=0)
        await beat(conn, "b:7", "relay", age=30)
        await beat(conn, "b:8", "work", "mail", age=40)
        [finding] = await said(conn)
        assert finding == (
            "Processes are gone from the host b: the relay b:7, the worker b:8. No end was recorded, the last heartbeat was "
            "30 s ago, and no process of that host is alive."
        )
        await beat(conn, "b:9", "api")
        [finding] = await said(conn)
        assert finding.endswith("the last heartbeat was 30 s ago.")
        status = InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn))
        [cure] = [each.do for each in diagnose(status) if "are gone" in each.what]
        await conn.execute(cure.partition("needs any more: ")[2])
        assert await said(conn) == []

    over(url, look)


def test_that_none_of_a_kind_is_left_is_said_once(url: str) -> None:
    async def look(conn: Connection) -> None:
        await beat(conn, "a:1", "relay", age=30)
        await beat(conn, "a:2", "work", "bills", "mail", age=30)
        await beat(conn, "a:3", "work", "mail")
        await beat(conn, "b:1", "api", age=30)
        assert await said(conn) == [], "no relay, no worker for bills, no API"
        await beat(conn, "a:4", "work", "bills")
        [finding] = await said(conn)
        assert "the worker a:2" in finding and "relay" in finding, "with what else is gone there"

    over(url, look)
