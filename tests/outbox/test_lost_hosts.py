"""A host of RabbitMQ or Postgres that cannot be used is told while others can, also if Stint does not use it now."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest

from actors.runtime import server_watch
from actors.runtime.server_watch import HostState
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.outbox.heartbeats import Process
from schemas.postgres.server.hosts import try_all
from schemas.servers.lost_hosts import Address, lost
from schemas.settings import Settings
from tests.faults.proxy import Proxy, target_of, through
from tests.support.clusters import clusters
from tests.support.installation import SECRET_KEY, eventually

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_a_host_is_lost_if_none_of_its_addresses_works_while_others_do() -> None:
    a, b = Address("a:1"), Address("b:1")
    assert lost({}) == lost({a: None}) == lost({a: None, b: None}) == {}
    assert lost({a: None, b: "is silent"}) == {"b:1": "is silent"}
    assert lost({a: "is silent", b: "is silent"}) == {}, "then the server does not answer"
    # one name for three machines
    three = {Address("c:1", f"10.0.0.{n}"): None if n < 3 else "is silent" for n in (1, 2, 3)}
    assert lost(three) == {"c:1 (10.0.0.3)": "is silent"}
    # localhost, whose server listens at one of its two addresses
    two = {Address("d:1", "::1"): "refuses", Address("d:1", "127.0.0.1"): None}
    assert lost(two) == {}
    assert lost({**two, Address("d:1", "127.0.0.1"): "refuses", a: None}) == {"d:1": "refuses"}


async def told(state: HostState, *names: str, words: str = "") -> None:
    """Returns when there are problems with the words of these servers, and of no other. A connection that breaks off while it
    is made looks like a refused login to pika, until the next one."""
    expected = {f"host of {name}" for name in names}
    async with asyncio.timeout(30):
        while set(state.problems) != expected or not all(words in each for each in state.problems.values()):  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)


def test_hosts_that_are_gone_silent_or_back_are_noticed(
    amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_watch, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr("schemas.rabbitmq.amqp.CONFIRM_SECONDS", 0.5)
    with ExitStack() as stack:
        brokers, databases = (
            [stack.enter_context(Proxy(target_of(url))) for _ in range(2)] for url in (amqp_url, database_url)
        )
        database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
        names = ",".join(f"127.0.0.1:{proxy.port}" for proxy in databases)
        settings = Settings(
            database_url=f"postgresql://stint@{names}/{database}?sslmode=disable&gssencmode=disable",
            amqp_url=",".join(through(proxy, amqp_url) for proxy in brokers),
            secret_key=SECRET_KEY,
        )
        state = HostState()

        async def one_after_the_other() -> None:
            watching = asyncio.create_task(server_watch.watch_hosts(settings, state))
            async with asyncio.timeout(30):
                while len(state.rabbitmq) < 2 or len(state.postgres) < 2:  # noqa: ASYNC110 - it sets no event
                    await asyncio.sleep(0.01)
            assert state.problems == {}
            for proxies, name in ((brokers, "RabbitMQ"), (databases, "Postgres")):
                breakages: list[Callable[[], None]] = [proxies[1].refuse, proxies[1].blackhole]
                for breaks in breakages:
                    await asyncio.to_thread(breaks)
                    await told(state, name, words=f"unusable: 127.0.0.1:{proxies[1].port} does not")
                    await asyncio.to_thread(proxies[1].heal)
                    await asyncio.to_thread(proxies[1].cut)
                    await told(state)
                await asyncio.to_thread(proxies[0].refuse)
                await told(state, name)
                await asyncio.to_thread(proxies[1].refuse)
                await told(state)  # none is left, which is told otherwise
                for proxy in proxies:
                    await asyncio.to_thread(proxy.heal)
            assert not watching.done()
            watching.cancel()

        asyncio.run(one_after_the_other())


def test_a_host_that_refuses_the_login_is_told_and_a_standby_is_not() -> None:
    with clusters() as made:
        primary = made.new("one").start()
        standby = made.keep(type(primary)(made.home / "two")).of(primary.sockets, "two").start()
        url = f"postgresql://stint@/postgres?host={primary.sockets},{standby.sockets}&target_session_attrs=read-write"
        assert lost(asyncio.run(try_all(url))) == {}
        (standby.data / "pg_hba.conf").write_text("local all other trust\n")
        standby.stop()
        standby.start(until_ready=False)

        def problem() -> str:
            return lost(asyncio.run(try_all(url))).get(str(standby.sockets), "")

        eventually(lambda: "pg_hba.conf" in problem())
        assert problem() == "does not let Stint in: its pg_hba.conf admits no user stint from this machine"
        standby.stop()
        standby.with_settings("hot_standby = off").start(until_ready=False)
        eventually(lambda: problem() == "", why="it accepts nobody, and follows the primary")


def relay(name: str, **problems: str) -> Process:
    found = {f"host of {server}": f"unusable: {text}" for server, text in problems.items()}
    return Process(process=name, kind="relay", queues=[], started_at=AT, seen_at=AT, alive=True, problems=found)


def test_the_doctor_names_the_hosts_and_who_cannot_use_them() -> None:
    def found(*relays: Process) -> list[str]:
        status = InstallationStatus(servers={"Postgres": "ok"}, processes=list(relays))
        return [each.what for each in diagnose(status) if each.what.startswith("A host of")]

    silent = "c:5672 does not answer: timed out"
    assert found(relay("a:1"), relay("b:1")) == []
    assert found(
        relay("a:1", RabbitMQ=silent, Postgres="c does not answer: none runs at c"), relay("b:1", RabbitMQ=silent)
    ) == [
        f"A host of RabbitMQ cannot be used: {silent}.",
        "A host of Postgres cannot be used: c does not answer: none runs at c (seen by the relay a:1 alone).",
    ]


def test_one_host_has_no_connection_more(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "EVERY_SECONDS", 0.01)
    parts = urlsplit(amqp_url)
    with Proxy(f"{parts.hostname}:{parts.port}") as proxy:
        settings = Settings(database_url="postgresql://x@127.0.0.1/x", amqp_url=through(proxy, amqp_url), secret_key=SECRET_KEY)

        async def watch() -> None:
            watching = asyncio.create_task(server_watch.watch_hosts(settings, HostState()))
            await asyncio.sleep(0.2)
            assert not watching.done()
            watching.cancel()

        asyncio.run(watch())
        assert proxy.connections == 0
