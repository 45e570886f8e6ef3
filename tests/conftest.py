"""Real servers for every test: one Postgres and one RabbitMQ a run, a database and a vhost for each of pytest's workers."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pika
import psycopg
import pytest

from ops.servers import Servers
from schemas.messages import QUEUES
from schemas.migrate import migrate
from tests.actors import probe
from tests.actors.probing import Ledger
from tests.alone import Room, wants_to_be_alone
from tests.given import Given
from tests.installation import Installation, new_database, with_database

WORKERS = [f"gw{number}" for number in range(8)] + ["master"]
VHOSTS = [vhost for worker in WORKERS for vhost in (worker, f"{worker}-own", f"{worker}-slack", f"{worker}-xero")]
_servers: Servers | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run the load, model and fault suites")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    items.sort(key=_turn)  # stable: neighbours stay neighbours
    room = config.pluginmanager.get_plugin("room")
    if room is not None and items and wants_to_be_alone(items[0]):
        room.expect_somebody()


def _turn(item: pytest.Item) -> tuple[bool, float]:
    """Those that have to be alone begin, while nobody is in the middle of anything, and then the longest, so that at the end
    nobody waits for one."""
    marker = item.get_closest_marker("slow")
    seconds = marker.kwargs.get("seconds", 5) if marker else 0
    return not wants_to_be_alone(item), -seconds


def pytest_configure(config: pytest.Config) -> None:
    """The servers start once, in the process that the workers are children of."""
    global _servers
    if config.option.collectonly:
        return
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Room(Path(os.environ["STINT_TEST_HOME"])), "room")
        return
    home = Path(tempfile.mkdtemp(prefix="stint-test-"))
    os.environ["STINT_TEST_HOME"] = str(home)
    _servers = Servers(home, durable=False, vhosts=VHOSTS).start().wait()
    # Nobody here speaks TLS, and each client of httpx would read all of the world's certificates: 25 ms a time.
    no_certificates = home / "certificates"
    no_certificates.mkdir()
    os.environ["SSL_CERT_DIR"] = str(no_certificates)
    os.environ.pop("SSL_CERT_FILE", None)
    template = with_database(_servers.database_url, "stint_template")
    with psycopg.connect(_servers.database_url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE stint_template")
    asyncio.run(migrate(template))
    os.environ["STINT_TEST_DATABASE_URL"] = _servers.database_url
    for vhost in VHOSTS:
        os.environ[f"STINT_TEST_AMQP_URL_{vhost}"] = _servers.amqp_url_of(vhost)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _servers is not None and not hasattr(config, "workerinput"):
        _servers.stop()
        shutil.rmtree(_servers.home, ignore_errors=True)


@pytest.fixture(scope="session")
def database_url() -> str:
    """Postgres, with the template that `new_database` clones."""
    return os.environ["STINT_TEST_DATABASE_URL"]


@pytest.fixture(scope="session")
def amqp_url(worker_id: str) -> str:
    """A vhost that only this pytest worker uses."""
    return os.environ[f"STINT_TEST_AMQP_URL_{worker_id}"]


@pytest.fixture(scope="session")
def stint(database_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running Stint, shared by the tests of one pytest worker: none of them ends its processes."""
    installation = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("stint"))
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


def emptied_vhost(worker_id: str) -> str:
    """The vhost beside the shared Stint's: two with different databases on one would take each other's messages."""
    amqp_url = os.environ[f"STINT_TEST_AMQP_URL_{worker_id}-own"]
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        for queue in QUEUES:
            connection.channel().queue_delete(queue)
            connection.channel().queue_delete(f"{queue}.XQ")
    return amqp_url


@pytest.fixture(scope="module")
def amqp_url_apart(worker_id: str) -> str:
    """For a Stint that the tests of one module share; none of them may ask for `own`, too."""
    return emptied_vhost(worker_id)


@pytest.fixture
def own(database_url: str, worker_id: str, tmp_path: Path) -> Iterator[Installation]:
    """A Stint for one test alone, with nothing started yet and its queues empty: its processes may be killed."""
    installation = Installation(new_database(database_url), emptied_vhost(worker_id), tmp_path)
    try:
        yield installation
    finally:
        installation.stop()


@pytest.fixture
def given(stint: Installation) -> Iterator[Given]:
    made = Given(stint)
    yield made
    made.close()


@pytest.fixture
def ledger(own: Installation) -> Iterator[Ledger]:
    own.environment["STINT_TEST_MODULE"] = "tests.actors.probe"
    with own.sql() as conn:
        conn.execute(probe.TABLES.encode())
        own.start("relay", "work")
        yield Ledger(own, conn)
