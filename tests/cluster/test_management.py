"""The management API of a cluster of RabbitMQ tells of nodes and replicas that are lost, and of those that are back."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from schemas.rabbitmq import management
from schemas.rabbitmq.management import API, NODE, REPLICA
from tests.cluster.brokers import MANAGEMENT_PORT, Brokers
from tests.cluster.network import Network
from tests.support.installation import eventually


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    tmp_path.chmod(0o711)
    with contextlib.closing(Network()) as network:
        made = Brokers(tmp_path, network, plugin_names=["rabbitmq_management"])
        try:
            made.launch()
            made.wait()
            yield made
        finally:
            made.stop()


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_lost_node_and_the_replicas_that_it_had_are_told_until_they_are_back(brokers: Brokers) -> None:
    a, b, c = brokers.nodes.values()
    addresses = [f"{node.host.address}:{MANAGEMENT_PORT}" for node in (c, b, a)]

    def told(password: str = "") -> dict[str, str]:
        login = f"monitor:{password or brokers.password}"
        return asyncio.run(management.problems(",".join(f"http://{login}@{each}" for each in addresses), "/"))

    with pika.BlockingConnection(pika.URLParameters(a.url)) as connection:
        for queue, kind in (("timers", "quorum"), ("bills", "quorum"), ("old", "classic")):
            connection.channel().queue_declare(queue, durable=True, arguments={"x-queue-type": kind})
    eventually(lambda: told() == {}, seconds=40, why=f"all is well; {told()}")
    assert told("wrong")[API].startswith(f"refused: {addresses[0]}: it refuses the password")

    c.kill()
    eventually(lambda: told() == {NODE: f"down: {c.node}"}, seconds=40)
    # it is lost with its disk, and another one takes its place: docs/three-hosts.md, Replace a host
    a.control("rabbitmqctl", "forget_cluster_node", c.node, seconds=150)  # much CPU time, on a busy machine
    eventually(lambda: told() == {}, seconds=40, why="two nodes have two replicas")
    c.wipe()
    c.launch()
    c.wait(90)
    alone = f"is on {a.node}, {b.node}"
    eventually(lambda: told() == {REPLICA: f"missing: bills {alone}; timers {alone} alone"}, seconds=60)
    a.control("rabbitmq-queues", "grow", c.node, "all", seconds=150)
    eventually(lambda: told() == {}, seconds=40)
