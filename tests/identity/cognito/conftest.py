"""A Cognito user pool, and an installation with that pool as its identity provider."""

from collections.abc import Iterator

import pytest

from tests.identity.cognito.pool import signed_in
from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import Installation, new_database
from tests.support.user_pool import UserPool


@pytest.fixture(scope="package")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserPool]:
    with UserPool(tmp_path_factory.mktemp("pool")) as made:
        yield made


@pytest.fixture(scope="module")
def firm(
    database_url: str, amqp_url_apart: str, pool: UserPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("firm")
    installation = Installation(new_database(database_url), amqp_url_apart, directory, **pool.environment)
    try:
        yield installation.start("api", "relay", "work:mail").wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def people(firm: Installation, pool: UserPool) -> Iterator[Given]:
    with firm.sql() as conn:
        conn.execute("DELETE FROM rate_limits")
    made = Given(firm)
    yield made
    made.close()
    pool.line.mode = pool.keys.mode = "pass"


@pytest.fixture
def admin(people: Given, pool: UserPool) -> Person:
    return signed_in(people, pool, pool.add("internal_admin"))


@pytest.fixture
def acme(people: Given, admin: Person) -> Json:
    return people.customer(admin)


@pytest.fixture
def boss(people: Given, pool: UserPool, acme: Json) -> Person:
    return signed_in(people, pool, pool.add("customer_admin", acme["id"]))
