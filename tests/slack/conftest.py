"""An installation that is connected to a stand-in Slack, and people in both."""

import os
from collections.abc import Iterator

import pytest

from ops.sandbox.slack_workspace import SETTINGS
from tests.given import Given, Json, Person
from tests.installation import Installation, new_database
from tests.workspace import Member, SlackSandbox, a_slack


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SlackSandbox]:
    with a_slack() as sandbox:
        yield sandbox


@pytest.fixture
def slack(sandbox: SlackSandbox) -> Iterator[SlackSandbox]:
    """The stand-in, in good health before and after the test."""
    yield sandbox
    sandbox.recovers()
    sandbox.sets(**SETTINGS)


@pytest.fixture(scope="session")
def stint(
    sandbox: SlackSandbox, database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Over a database and a vhost of its own."""
    amqp_url = os.environ[f"STINT_TEST_AMQP_URL_{worker_id}-slack"]
    directory = tmp_path_factory.mktemp("slack")
    installation = Installation(new_database(database_url), amqp_url, directory, **sandbox.environment)
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def person(given: Given) -> Person:
    """One of the firm's own people."""
    return given.person()


@pytest.fixture
def member(slack: SlackSandbox, stint: Installation, person: Person) -> Member:
    """The same person in Slack, in a channel that is nobody's."""
    return Member(slack, stint, slack.user(person.email), slack.channel())


@pytest.fixture
def customer(person: Person, given: Given) -> Json:
    return given.customer(person)
