"""The private Postgres and RabbitMQ: they come back at the same URL, whatever ended them."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import psycopg
import pytest

from ops.errors import CommandError
from ops.up.packages.rabbitmq import show_needed_plugins
from ops.up.postgres import Postgres
from ops.up.rabbitmq import RabbitMQ
from ops.up.servers import Servers

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers"), durable=False, vhosts=["second"]) as servers:
        yield servers


def put(amqp_url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2))  # type: ignore[no-untyped-call]


def first(amqp_url: str, queue: str) -> bytes | None:
    """The body of the first message, or None when the queue does not exist."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        for _ in range(50):  # a quorum queue chooses its leader just after the start
            with contextlib.suppress(pika.exceptions.AMQPChannelError):
                if body := connection.channel().basic_get(queue)[2]:
                    return body
            time.sleep(0.1)
            if not exists(connection, queue):
                return None
    raise AssertionError(f"{queue} is empty")


def exists(connection: pika.BlockingConnection, queue: str) -> bool:
    try:
        connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        return bool(error.reply_code != 404)
    return True


def test_a_restarted_rabbitmq_keeps_its_url_and_messages_and_an_emptied_one_its_url(servers: Servers) -> None:
    url = servers.amqp_url
    put(url, "kept")
    time.sleep(1.5)
    servers.rabbitmq.kill()
    servers.rabbitmq.start()
    assert (servers.amqp_url, first(url, "kept")) == (url, b"x")
    servers.rabbitmq.stop()
    servers.rabbitmq.empty()
    servers.rabbitmq.start()
    assert (servers.amqp_url, first(url, "kept")) == (url, None)


@pytest.mark.slow
def test_a_rabbitmq_that_is_killed_as_it_makes_a_queue_comes_back_with_one_that_works(servers: Servers) -> None:
    put(servers.amqp_url, "young")
    servers.rabbitmq.kill()
    servers.rabbitmq.start()
    put(servers.amqp_url, "young")
    assert first(servers.amqp_url, "young") == b"x"


def test_each_vhost_has_queues_of_its_own(servers: Servers) -> None:
    put(servers.amqp_url_of("second"), "mine")
    assert first(servers.amqp_url_of("second"), "mine") == b"x"
    assert first(servers.amqp_url, "mine") is None


def test_only_loopback_can_reach_rabbitmq(servers: Servers) -> None:
    for port in servers.rabbitmq.ports.values():
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
        assert listening == [f"0100007F:{port:04X}"]


def test_what_holds_the_password_is_for_its_owner_alone(servers: Servers) -> None:
    for name in ("password", "rabbitmq.conf", "definitions.json"):
        assert (servers.home / "rabbitmq" / name).stat().st_mode & 0o077 == 0


def test_a_killed_postgres_comes_back_with_its_rows(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS n")
    servers.postgres.kill()
    servers.postgres.start()
    with psycopg.connect(servers.database_url) as conn:
        assert conn.execute("SELECT n FROM kept").fetchone() == (42,)


def test_a_pid_file_whose_number_is_somebody_elses_now_stops_no_start(servers: Servers) -> None:
    servers.postgres.stop()
    # our own number: alive, and no Postgres
    (servers.postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{servers.postgres.data}\n")
    servers.postgres.start()
    with psycopg.connect(servers.database_url) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_postgres_listens_on_no_port(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as conn:
        row = conn.execute("SELECT current_setting('listen_addresses'), inet_server_port()").fetchone()
    assert row == ("", None)


def test_an_interrupted_initdb_is_not_taken_for_a_database(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path, durable=False)
    asyncio.run(postgres.prepare())
    try:
        postgres.start()
    finally:
        postgres.stop()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, durable=False)
    asyncio.run(postgres.prepare())
    (postgres.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(CommandError, match="no_such_setting"):
        postgres.start()
    postgres.stop()


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    rabbitmq = RabbitMQ(tmp_path)
    asyncio.run(rabbitmq.prepare())
    before = dict(rabbitmq.ports)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", before["amqp"]))
        taker.listen()
        asyncio.run(rabbitmq.prepare())
    assert rabbitmq.ports["amqp"] != before["amqp"]
    assert rabbitmq.ports["epmd"] == before["epmd"]
    assert json.loads((tmp_path / "rabbitmq" / "ports.json").read_text()) == rabbitmq.ports


STARTS_A_POSTGRES = """
import asyncio, sys, time
from pathlib import Path
from ops.up.postgres import Postgres
postgres = Postgres(Path(sys.argv[1]), durable=False)
asyncio.run(postgres.prepare())
postgres.start()
print(postgres.sockets, *postgres.pids, flush=True)
time.sleep(60)
"""


def test_after_kill_9_nothing_is_left_not_even_where_the_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30) / "with space"
    starter = subprocess.Popen([sys.executable, "-c", STARTS_A_POSTGRES, str(home)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    try:
        sockets, pid = starter.stdout.readline().rsplit(maxsplit=1)
        assert Path(sockets).is_dir() and tmp_path not in Path(sockets).parents
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.communicate()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (Path(sockets).exists() or Path(f"/proc/{pid}").exists()):
        time.sleep(0.02)
    assert not Path(sockets).exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_node_is_shown_the_plugins_that_it_needs_and_no_others(tmp_path: Path) -> None:
    needs = {"rabbit": ["kernel", "rabbit_common", "ra"], "rabbit_common": ["kernel"], "ra": ["aten"], "aten": [], "web": []}
    for name, applications in needs.items():
        ebin = tmp_path / "plugins" / f"{name}-1.2.3" / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(f"{{application, {name}, [{{applications, [{','.join(applications)}]}}]}}.")
    show_needed_plugins(tmp_path / "plugins", tmp_path / "shown")
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {f"{name}-1.2.3" for name in needs if name != "web"}


def test_a_node_whose_plugins_are_laid_out_in_an_unknown_way_is_shown_all(tmp_path: Path) -> None:
    archives = {"rabbit-1.2.3.ez", "rabbit_common-1.2.3.ez", "web-1.2.3.ez"}
    (tmp_path / "plugins").mkdir()
    for name in archives:
        (tmp_path / "plugins" / name).touch()
    show_needed_plugins(tmp_path / "plugins", tmp_path / "shown")
    assert {path.name for path in (tmp_path / "shown").iterdir()} == archives
