"""Breakages of RabbitMQ."""

import json
from urllib.parse import urlsplit

import pika

from tests.faults import rabbit
from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import WORKERS, Site
from tests.faults.proxy import Proxy, target_of, through
from tests.support.given import Json


def _start(site: Site, _: Json) -> None:
    site.servers.rabbitmq.start()
    site.servers.rabbitmq.wait()


def _wrong(amqp_url: str) -> str:
    parts = urlsplit(amqp_url)
    return parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl()


def _restart_workers(site: Site, amqp_url: str) -> None:
    """The relay and the doctor have the right URL."""
    for name in WORKERS:
        site.restart(name, AMQP_URL=amqp_url)
    site.stint.environment["AMQP_URL"] = site.servers.amqp_url


def _publish_junk(site: Site) -> None:
    with pika.BlockingConnection(pika.URLParameters(site.servers.amqp_url)) as connection:
        for _ in range(3):
            connection.channel().basic_publish("", "timers", b"\xff not a message of Stint")


def _name_two_hosts(site: Site) -> None:
    """The second one is another way to the same node."""
    site.proxies["rabbitmq"] = proxy = site.held.enter_context(Proxy(target_of(site.servers.amqp_url)))
    site.restart("relay", AMQP_URL=f"{site.servers.amqp_url},{through(proxy, site.servers.amqp_url)}")


def _name_one_host(site: Site) -> None:
    site.restart("relay", AMQP_URL=site.servers.amqp_url)
    site.held.close()


def _discard_unrecognized(site: Site, _: Json) -> None:
    for group in json.loads(site.command("./stint dead --json"))["unrecognizedGroups"]:
        site.command(f"./stint dead discard --group {group['fingerprint']} --reason 'another program'")


BREAKAGES = [
    Breakage(
        "RabbitMQ is stopped",
        "RabbitMQ does not answer",
        "RabbitMQ does not answer",
        "start RabbitMQ",
        lambda site: site.servers.rabbitmq.stop(),
        _start,
    ),
    Breakage(
        "RabbitMQ is low on memory",
        "RabbitMQ blocks publishers: low on memory",
        "RabbitMQ blocks publishers",
        "rabbitmqctl set_vm_memory_high_watermark 0.6",
        lambda site: rabbit.memory_alarm(site.servers.rabbitmq, True),
        lambda site, _: site.rabbitmqctl("rabbitmqctl set_vm_memory_high_watermark 0.6"),
    ),
    Breakage(
        "RabbitMQ is low on disk",
        "RabbitMQ blocks publishers: low on disk",
        "RabbitMQ blocks publishers",
        "rabbitmqctl set_disk_free_limit 1GB",
        lambda site: rabbit.disk_alarm(site.servers.rabbitmq, True),
        lambda site, _: site.rabbitmqctl("rabbitmqctl set_disk_free_limit 1GB"),
    ),
    Breakage(
        "a wrong AMQP password",
        "RabbitMQ refuses the login: ACCESS_REFUSED",
        "RabbitMQ refuses the login",
        "set AMQP_URL right and restart Stint",
        lambda site: site.restart("relay", AMQP_URL=_wrong(site.servers.amqp_url)),
        lambda site, _: site.restart("relay", AMQP_URL=site.servers.amqp_url),
    ),
    Breakage(
        "a wrong AMQP password of the workers",
        "RabbitMQ refuses the login: ACCESS_REFUSED",
        "RabbitMQ refuses the login",
        "set AMQP_URL right and restart Stint",
        lambda site: _restart_workers(site, _wrong(site.servers.amqp_url)),
        lambda site, _: _restart_workers(site, site.servers.amqp_url),
    ),
    Breakage(
        "a host of RabbitMQ is gone",
        "A host of RabbitMQ cannot be used: 127.0.0.1:",
        "A host of RabbitMQ cannot be used",
        "start RabbitMQ there",
        lambda site: site.proxies["rabbitmq"].refuse(),
        lambda site, _: site.proxies["rabbitmq"].heal(),
        prepare=_name_two_hosts,
        tidy=_name_one_host,
    ),
    Breakage(
        "junk in a queue",
        "Unrecognized messages arrived from RabbitMQ: 3.",
        "Unrecognized messages",
        "./stint dead discard --group GROUP --reason '…'",
        _publish_junk,
        _discard_unrecognized,
    ),
]
