"""Breakages of RabbitMQ."""

from tests.faults import rabbit
from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json


def _start(site: Site, _: Json) -> None:
    site.servers.rabbitmq.start()
    site.servers.rabbitmq.wait()


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
]
