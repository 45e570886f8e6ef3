"""API processes with other settings, over the database of an installation that runs. They have no workers."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.given import Given
from tests.support.installation import Installation, eventually, new_database
from tests.support.wire import Wire

Another = Callable[..., Installation]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"  # no server listens there


@contextmanager
def apis_over(stint: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Another]:
    """A function that returns an API over the same database with the environment that it is called with, which starts once."""
    made: dict[tuple[tuple[str, str], ...], Installation] = {}

    def api(**environment: str) -> Installation:
        key = tuple(sorted(environment.items()))
        if key not in made:
            made[key] = Installation(stint.database_url, stint.amqp_url, tmp_path_factory.mktemp("api"), **environment)
            made[key].start("api")
        installation = made[key]
        eventually(lambda: installation.answers("/health/live"), seconds=60, why=installation.log("api")[-800:])
        return installation

    try:
        yield api
    finally:
        for installation in made.values():
            installation.stop()


@pytest.fixture(scope="module")
def another(shared_stint: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Another]:
    """`another(STINT_TIMEZONE=…)` returns an API over the database of the shared installation with that environment. It ends
    with the module: an idle one costs in two minutes what its start costs."""
    with apis_over(shared_stint, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def new_york(another: Another) -> Installation:
    """The same firm with the time zone of New York."""
    return another(STINT_TIMEZONE="America/New_York")


@pytest.fixture(scope="module")
def without_postgres(another: Another) -> Installation:
    """An API whose database cannot be reached, which says so after a tenth of a second instead of 1.5."""
    return another(DATABASE_URL=NOWHERE, STINT_CONNECT_SECONDS="0.1")


@pytest.fixture(scope="session")
def idle(database_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An API over a database of its own without a worker: no stop becomes an entry."""
    installation = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("idle"))
    try:
        yield installation.start("api").wait_until_ready()
    finally:
        installation.close()


@pytest.fixture
def given_idle(idle: Installation) -> Iterator[Given]:
    """`Given` for `idle`, for a test that reads all rows: fewer tests write to that database."""
    with closing(Given(idle)) as given:
        yield given


@pytest.fixture(scope="session")
def wire(shared_stint: Installation) -> Iterator[Wire]:
    """A proxy between an API and Postgres that records statements."""
    with Wire(shared_stint.database_url) as tapped:
        yield tapped


@pytest.fixture(scope="module")
def tapped(wire: Wire, another: Another) -> Installation:
    """An API over the same database that connects through `wire`."""
    return another(DATABASE_URL=wire.database_url)
