"""An installation that is connected to a stand-in Slack, and users in both."""

from collections.abc import Iterator

import pytest

from ops.sandbox.slack.workspace import SETTINGS
from tests.slack.at_home import AtHome
from tests.support import servers
from tests.support.apis import Another, apis_over
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, emptied, new_database
from tests.support.slack_sandbox import Member, SlackSandbox, running_slack_sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SlackSandbox]:
    with running_slack_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def slack(sandbox: SlackSandbox) -> Iterator[SlackSandbox]:
    """The stand-in, without faults before and after the test."""
    yield sandbox
    sandbox.clear_faults()
    sandbox.configure(**SETTINGS)


@pytest.fixture(scope="module")
def stint(
    sandbox: SlackSandbox, database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation with its own database and vhost, for the tests of one module: an idle one would cost in half a minute
    what its start costs."""
    amqp_url = emptied(servers.addresses().amqp_urls[f"{worker_id}-slack"])
    directory = tmp_path_factory.mktemp("slack")
    # Commands are answered by their result, also on a machine that stalls for a second.
    times = {"STINT_SLACK_ACCESS_SECONDS": "0.5", "STINT_SLACK_LATE_SECONDS": "30"}
    installation = Installation(new_database(database_url), amqp_url, directory, **sandbox.environment, **times)
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture(scope="module")
def another(stint: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Another]:
    """APIs over the database of the installation with Slack."""
    with apis_over(stint, tmp_path_factory) as made:
        yield made


@pytest.fixture
def person(given: Given) -> Person:
    """An internal user."""
    return given.person()


@pytest.fixture
def member(slack: SlackSandbox, stint: Installation, person: Person) -> Member:
    """The same person in Slack, in a channel without a mapping."""
    return Member(slack, stint, slack.user(person.email), slack.channel())


@pytest.fixture
def customer(person: Person, given: Given) -> Json:
    return given.customer(person)


@pytest.fixture
def home(member: Member) -> AtHome:
    """The member's App Home."""
    return AtHome(member)
