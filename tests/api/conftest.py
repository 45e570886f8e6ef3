"""More API processes beside the shared installation, each for what only other settings show. They have no workers."""

from collections.abc import Callable, Iterator

import pytest

from tests.api.wire import Wire
from tests.installation import Installation, eventually, new_database

Another = Callable[..., Installation]


@pytest.fixture(scope="session")
def another(stint: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Another]:
    """`another(STINT_TIMEZONE=…)` gives an API over the same database with that environment; made once for each."""
    made: dict[tuple[tuple[str, str], ...], Installation] = {}

    def api(**environment: str) -> Installation:
        key = tuple(sorted(environment.items()))
        if key not in made:
            made[key] = Installation(stint.database_url, stint.amqp_url, tmp_path_factory.mktemp("api"), **environment)
            made[key].start("api")
        installation = made[key]
        eventually(lambda: installation.answers("/health/live"), seconds=60, why=installation.log("api")[-800:])
        return installation

    yield api
    for installation in made.values():
        installation.stop()


@pytest.fixture(scope="session")
def new_york(another: Another) -> Installation:
    """The same firm, if it sat in New York."""
    return another(STINT_TIMEZONE="America/New_York")


@pytest.fixture(scope="session")
def without_postgres(another: Another) -> Installation:
    """An API whose database is not there."""
    return another(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")


@pytest.fixture(scope="session")
def idle(database_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An API over a database of its own, behind which nobody works: no stop ever becomes an entry."""
    installation = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("idle"))
    try:
        yield installation.start("api").wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture(scope="session")
def wire(stint: Installation) -> Iterator[Wire]:
    """A tap between an API and Postgres."""
    with Wire(stint.database_url) as tapped:
        yield tapped


@pytest.fixture(scope="session")
def tapped(wire: Wire, another: Another) -> Installation:
    """An API over the same database, whose every statement passes the tap."""
    return another(DATABASE_URL=wire.database_url)
