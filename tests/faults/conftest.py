"""Servers of their own for tests that stop servers."""

import zlib
from collections.abc import Iterator

import pytest

from ops.up.servers import Servers
from tests.support.installation import Installation, emptied
from tests.support.servers import make_template


@pytest.fixture(scope="session")
def started_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("servers")
    home.chmod(0o711)
    with Servers(home, durable=False) as running:
        make_template(running.database_url)
        yield running


@pytest.fixture(scope="module")
def servers(started_servers: Servers) -> Servers:
    """A Postgres and a RabbitMQ that this module may stop. They run at its beginning, and the queues are empty."""
    for server in (started_servers.rabbitmq, started_servers.postgres):
        if not server.is_running():
            server.start()
    emptied(started_servers.wait().amqp_url)
    return started_servers


@pytest.fixture
def queue_type(request: pytest.FixtureRequest) -> str:
    """Of half of the tests, always the same ones, the default of STINT_QUEUE_TYPE; of the others that of a single node. A test
    with both would take twice as long."""
    return ("classic", "quorum")[zlib.crc32(request.node.name.encode()) % 2]


@pytest.fixture
def own(own: Installation, queue_type: str) -> Installation:
    """A Stint for one test alone, with queues of that type."""
    own.environment["STINT_QUEUE_TYPE"] = queue_type
    return own
