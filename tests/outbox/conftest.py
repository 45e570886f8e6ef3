"""Installations whose workers run the probes."""

from collections.abc import Iterator

import pytest

from tests.outbox.probes import Probes, running_probes
from tests.support import servers
from tests.support.installation import Installation, emptied, new_database


@pytest.fixture(scope="module")
def shared_probes(database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probes]:
    amqp_url = emptied(servers.addresses().amqp_urls[f"{worker_id}-probes"])
    installation = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("probes"))
    try:
        with running_probes(installation) as probes:
            yield probes
    finally:
        installation.stop()


@pytest.fixture
def probes(shared_probes: Probes) -> Iterator[Probes]:
    """Probes with an empty outbox. The tests of a module share their relay and worker; what a test has ended is started
    again."""
    yield shared_probes
    for name in ("relay", "work"):
        shared_probes.restart(name)
    shared_probes.empty()


@pytest.fixture
def own_probes(own: Installation) -> Iterator[Probes]:
    """Probes for one test alone: it may kill the processes, or start them with other settings."""
    with running_probes(own) as probes:
        yield probes
