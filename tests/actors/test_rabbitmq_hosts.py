"""AMQP_URL with several servers, names with several addresses, and TLS."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import dramatiq
import pika
import pytest
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPConnectionError

from actors.runtime.broker import OutboxBroker, OutboxConsumer
from schemas.diagnosis import rabbitmq
from schemas.rabbitmq import hosts as rabbitmq_hosts
from schemas.rabbitmq.amqp import Amqp
from schemas.rabbitmq.hosts import RabbitHosts, hosts_of
from schemas.rabbitmq.problems import LOST, ConnectionLost
from schemas.settings import SettingsMissing
from tests.faults.proxy import target_of
from tests.support.installation import free_port
from tests.support.silent import Silent, silent_server
from tests.support.tls import Authority, tls_server

QUEUE = "of-test-rabbitmq-hosts"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    monkeypatch.setattr(rabbitmq_hosts, "CONNECT_SECONDS", 1)
    with silent_server() as made:
        yield made


def at(amqp_url: str, port: int, *, host: str = "127.0.0.1", scheme: str = "amqp", query: str = "") -> str:
    """The same virtual host and account at another address."""
    parts = urlsplit(amqp_url)
    account = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(scheme=scheme, netloc=f"{account}@{host}:{port}", query=query))


def in_given_order(servers: list[Any], _: int) -> list[Any]:
    """Instead of a random order."""
    return list(servers)


def test_a_silent_and_a_dead_server_are_passed_over_and_then_tried_last(
    silent: Silent, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.sample", in_given_order)
    dead = free_port()
    urls = f"{at(amqp_url, silent.port)}, {at(amqp_url, dead)} {amqp_url}"

    async def open_three() -> None:
        for _ in range(3):
            async with await Amqp.open(urls) as amqp:
                assert await amqp.declare(QUEUE, {"x-queue-type": "classic"}) is None

    asyncio.run(open_three())
    assert len(silent.accepted) == 1

    # the threads of a worker, which connect by Dramatiq
    again = f"{urls} "  # another setting, so that nothing is known of it
    broker = OutboxBroker(again)
    dramatiq.actor(actor_name="nothing", queue_name=QUEUE, broker=broker)(lambda: None)
    for _ in range(2):
        OutboxConsumer(broker, QUEUE, 1, 100).close()
        broker.channel.queue_declare(QUEUE, passive=True)
        del broker.connection
    assert len(silent.accepted) == 2
    broker.close()
    ports = [parameters.port for parameters in hosts_of(again).in_order()]
    assert ports[0] not in (silent.port, dead) and set(ports[1:]) == {silent.port, dead}


def test_a_server_that_is_silent_during_the_handshake_is_lost_for_each_way_to_connect(silent: Silent, amqp_url: str) -> None:
    url = at(amqp_url, silent.port)
    broker = OutboxBroker(url)
    with pytest.raises(AMQPConnectionError, match="no answer in time"):
        broker.connection  # noqa: B018 - it connects
    with pytest.raises(ConnectionClosed, match="no answer in time"):
        OutboxConsumer(broker, QUEUE, 1, 100)
    with pytest.raises(LOST):
        pika.BlockingConnection(hosts_of(url).in_order())
    with pytest.raises(ConnectionLost):
        asyncio.run(Amqp.open(url))


def test_the_doctor_waits_for_a_silent_server_and_then_finds_the_other_one(
    silent: Silent, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.sample", in_given_order)
    monkeypatch.setattr(rabbitmq_hosts, "CONNECT_SECONDS", 3)
    monkeypatch.setattr(rabbitmq, "PROBE_SECONDS", 3.0)
    assert asyncio.run(rabbitmq.probe(f"{at(amqp_url, silent.port)},{amqp_url}")) == "ok"


def test_connections_spread_over_the_servers() -> None:
    hosts = RabbitHosts(",".join(f"amqp://10.0.0.{n}/" for n in range(1, 4)))
    assert {hosts.in_order()[0].host for _ in range(200)} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{n}", 5672)) for n in (1, 2)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    hosts = RabbitHosts("amqp://rabbit.example/")
    first = hosts.in_order()
    assert {parameters.host for parameters in first} == {"10.0.0.1", "10.0.0.2"}
    hosts.failed(first[0])
    assert [parameters.host for parameters in hosts.in_order()] == [first[1].host, first[0].host]
    hosts.failed(first[1])  # all failed: the one whose failure is older is tried first
    assert [parameters.host for parameters in hosts.in_order()] == [first[0].host, first[1].host]
    hosts.worked(first[1])
    assert hosts.in_order()[0].host == first[1].host


def test_the_error_names_each_server(amqp_url: str) -> None:
    first, second = free_port(), free_port()
    with pytest.raises(ConnectionLost) as raised:
        asyncio.run(Amqp.open(f"{at(amqp_url, first)},{at(amqp_url, second)}"))
    assert {each.rpartition(" at ")[2] for each in str(raised.value).split("; ")} == {
        f"127.0.0.1:{port}" for port in (first, second)
    }


def test_tls_verifies_the_server_and_shows_the_client(amqp_url: str, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    client = authority.certificate("stint")
    own = f"&certfile={quote(str(client.certificate))}&keyfile={quote(str(client.key))}"

    async def opens(url: str) -> None:
        async with await Amqp.open(url) as amqp:
            assert await amqp.exists("no-such-queue") is False

    with tls_server(target_of(amqp_url), authority.certificate("localhost"), authority) as server:

        def url(query: str, host: str = "localhost") -> str:
            return at(amqp_url, server.port, host=host, scheme="amqps", query=query)

        good = url(f"cacertfile={authority.file}{own}&heartbeat=7")
        asyncio.run(opens(good))
        pika.BlockingConnection(hosts_of(good).in_order()).close()
        assert server.clients == ["stint", "stint"]
        for wrong in (
            url(f"cacertfile={other.file}{own}"),  # the server is not of that authority
            url(own.removeprefix("&")),  # of none that the system knows
            url(f"cacertfile={authority.file}{own}", host="127.0.0.1"),  # nor is it at its name
            url(f"cacertfile={authority.file}"),  # the client shows no certificate
        ):
            with pytest.raises(ConnectionLost):
                asyncio.run(opens(wrong))
            broker = OutboxBroker(wrong)
            with pytest.raises(AMQPConnectionError):
                broker.connection  # noqa: B018 - it connects
            with pytest.raises(ConnectionClosed):
                OutboxConsumer(broker, QUEUE, 1, 100)
        assert server.clients == ["stint", "stint"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost/",
        "amqp://localhost:no/",
        "amqp://localhost/?no=such",
        "amqp://me@localhost/",
        "x,amqp://h/",
        "amqp://me:left/right@localhost/",
        "amqp://me:left?right@localhost/",
    ],
)
def test_what_is_no_url_of_a_rabbitmq_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(SettingsMissing, match=r"AMQP_URL is not .* Write amqp://user:password@host:5672/vhost\.") as raised:
        hosts_of(url)
    assert "left" not in str(raised.value) and "right" not in str(raised.value)


def test_a_file_for_tls_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("this is no certificate")
    for query in (f"cacertfile={tmp_path}/none.pem", f"cacertfile={tmp_path}/no.pem", f"certfile={tmp_path}/no.pem"):
        with pytest.raises(SettingsMissing, match=query.rpartition("/")[2]):
            hosts_of(f"amqps://localhost/?{query}")
