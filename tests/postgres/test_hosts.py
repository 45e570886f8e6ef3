"""DATABASE_URL with several hosts: a silent or read-only host delays a connection once, and nothing else."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from schemas.postgres.connection import Connection, connect
from schemas.postgres.pool import Database
from schemas.servers import recent_failures
from schemas.servers.postgres_hosts import HOST_SECONDS, Host, Hosts, hosts_of
from schemas.settings import Settings
from tests.faults.proxy import Proxy, target_of
from tests.support.clusters import clusters
from tests.support.silent import Silent, silent_server
from tests.support.tls import Authority, tls_server


@pytest.fixture
def silent() -> Iterator[Silent]:
    with silent_server() as made:
        yield made


def settings_of(url: str) -> Settings:
    return Settings(database_url=url, amqp_url="", secret_key=SecretStr("x" * 32))


@contextmanager
def hosts(database_url: str, *first_ports: int) -> Iterator[str]:
    """A URL with these hosts, and then one that leads to Postgres."""
    with Proxy(target_of(database_url)) as proxy:
        ports = [*first_ports, proxy.port]
        names = ",".join(f"127.0.0.1:{port}" for port in ports)
        database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
        yield f"postgresql://stint@{names}/{database}?sslmode=disable&gssencmode=disable"


def test_a_silent_first_host_delays_the_first_connection_only(silent: Silent, database_url: str) -> None:
    with hosts(database_url, silent.port) as url:

        async def several() -> float:
            started = time.monotonic()
            async with await connect(settings_of(url)) as first:
                waited = time.monotonic() - started
                assert await first.value("SELECT 1") == 1
            for _ in range(5):
                async with await connect(settings_of(url)) as conn:
                    assert await conn.value("SELECT 1") == 1
            return waited

        assert asyncio.run(several()) >= HOST_SECONDS - 0.1
    assert len(silent.accepted) == 1


def test_several_hosts_without_a_port_have_the_usual_one() -> None:
    """As in `a,b,c`: libpq makes the port `,,` of it."""

    async def ports(url: str) -> list[object]:
        return [host.options()["port"] for host in await Hosts(url).in_order()]

    assert asyncio.run(ports("postgresql://stint@127.0.83.1,127.0.83.2/stint")) == ["5432", "5432"]
    assert asyncio.run(ports("postgresql://stint@127.0.83.1:5433,127.0.83.2/stint")) == ["5433", "5432"]
    with pytest.raises(psycopg.OperationalError) as raised:
        asyncio.run(Connection.connect("postgresql://stint@127.0.83.1,127.0.83.2/nowhere?sslmode=disable"))
    assert "could not match" not in str(raised.value)


def test_requests_go_on_while_the_first_host_is_silent(
    silent: Silent, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor does not take Postgres for unresponsive while its own connection waits for the silent host."""
    monkeypatch.setattr(recent_failures, "SECONDS", 0.0)  # so that each connection waits for it
    with hosts(database_url, silent.port) as url:

        async def requests() -> int:
            database = Database(settings_of(url))
            await database.open()
            try:
                await asyncio.sleep(HOST_SECONDS + 1)  # the first connections wait for the silent host
                done, ends_at = 0, time.monotonic() + 3 * HOST_SECONDS
                while time.monotonic() < ends_at:
                    async with database.transaction() as conn:
                        done += await conn.value("SELECT 1 FROM pg_sleep(0.05)")
                return done
            finally:
                await database.close()

        assert asyncio.run(requests()) > 10


def test_the_error_names_each_host_and_what_it_said(silent: Silent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    both = f"postgresql://stint@127.0.0.1:{silent.port},127.0.0.1:{port}/stint"
    with pytest.raises(psycopg.OperationalError) as raised:
        asyncio.run(Connection.connect(both))
    assert not isinstance(raised.value, psycopg.errors.ConnectionTimeout)
    assert "127.0.0.1: connection timeout expired; 127.0.0.1: " in str(raised.value) and "refused" in str(raised.value)

    with pytest.raises(psycopg.errors.ConnectionTimeout):  # so the monitor sees that nobody answers
        asyncio.run(Connection.connect(f"postgresql://stint@127.0.0.1:{silent.port},127.0.0.1:{silent.port}/stint"))


def test_a_host_that_accepts_no_writes_is_passed_over_until_it_is_promoted() -> None:
    with clusters() as made:
        standby = made.new("one", "default_transaction_read_only = on").start()
        primary = made.new("two").start()
        url = f"postgresql://stint@/postgres?host={standby.sockets},{primary.sockets}"

        async def directory(conninfo: str) -> str:
            async with await connect(settings_of(conninfo)) as conn:
                return str(await conn.value("SHOW data_directory"))

        assert asyncio.run(directory(url)) == str(primary.data)
        assert asyncio.run(directory(f"{url}&target_session_attrs=any")) == str(standby.data)  # as the URL says

        primary.crash()
        with standby.sql("postgres") as conn:
            conn.execute("ALTER SYSTEM SET default_transaction_read_only = off")
            conn.execute("SELECT pg_reload_conf()")
        assert asyncio.run(directory(url)) == str(standby.data)


def test_one_host_is_left_to_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGTARGETSESSIONATTRS", raising=False)
    for conninfo in (
        "postgresql://h/stint",
        "postgresql:///stint",
        "postgresql:///stint?host=/run",
        "host=10.0.0.1 hostaddr=10.0.0.2",
    ):
        one = Hosts(conninfo)
        assert "target_session_attrs" not in one.options() and one.longest_seconds(2.0) == 2.0
    assert asyncio.run(Hosts("postgresql://10.0.0.1/stint").in_order()) == []


def test_hosts_and_ports_belong_together() -> None:
    each = asyncio.run(Hosts("postgresql://10.0.0.1:1,10.0.0.2:2/stint").in_order())
    assert each == [Host("10.0.0.1", "1"), Host("10.0.0.2", "2")]
    assert asyncio.run(Hosts("host=10.0.0.1,10.0.0.2 port=7").in_order()) == [Host("10.0.0.1", "7"), Host("10.0.0.2", "7")]
    both = hosts_of("host=10.0.0.1,10.0.0.2")
    both.failures.failed(Host("10.0.0.1", ""))
    assert asyncio.run(both.in_order()) == [Host("10.0.0.2", ""), Host("10.0.0.1", "")]
    assert both.options() == {"connect_timeout": HOST_SECONDS, "target_session_attrs": "read-write"}
    assert both.longest_seconds(2.0) > 2 * HOST_SECONDS


def test_the_certificate_of_postgres_is_verified_with_the_name_of_each_host(database_url: str, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with tls_server(target_of(database_url), authority.certificate("localhost")) as server:

        async def reads(authority: Authority, hosts: str) -> None:
            url = f"postgresql://stint@{hosts}/{database}?sslmode=verify-full&sslrootcert={authority.file}&gssencmode=disable"
            async with await connect(settings_of(url)) as conn:
                assert conn.pgconn.ssl_in_use and await conn.value("SELECT 1") == 1

        port = server.port
        asyncio.run(reads(authority, f"localhost:{port}"))
        asyncio.run(reads(authority, f"127.0.0.1:{port},localhost:{port}"))  # passed over: it is not at this name
        for wrong in ((other, f"localhost:{port}"), (authority, f"127.0.0.1:{port}")):
            with pytest.raises(psycopg.OperationalError, match="certificate"):
                asyncio.run(reads(*wrong))
