"""Watches servers for the heartbeats of relays and workers.

RabbitMQ, on a connection of its own: an alarm is known only to those who publish, and a relay may have nothing to publish for
hours. Workers watch it, too: one may be cut off from it while relays are not. The mail server: at the start of a worker, and
again and again while it cannot be used. Xero and Slack: after a call without an answer, until they answer. Each host of
AMQP_URL and DATABASE_URL, if there are several: those that Stint does not use now are needed when another one is lost.
The
cluster of RabbitMQ, by its management API, if RABBITMQ_API_URL names it. Certificates: some times an hour.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from schemas.diagnosis import rabbitmq
from schemas.errors import RetryAfter, ServerFailed
from schemas.mail import smtp
from schemas.postgres.connection import connect
from schemas.postgres.server import hosts as postgres_hosts
from schemas.rabbitmq import management
from schemas.rabbitmq.amqp import Amqp
from schemas.rabbitmq.hosts import hosts_of
from schemas.rabbitmq.problems import LOST, ConnectionLost, Problem
from schemas.servers import certificates
from schemas.servers.error_words import in_words
from schemas.servers.lost_hosts import Address, lost
from schemas.settings import Settings

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
CERTIFICATES_SECONDS = 600.0
CLUSTER_SECONDS = 15.0
MAIL_SECONDS, MAIL_TIMEOUT_SECONDS = 15.0, 5.0
REFUSALS = 3  # mails in a row that are refused with 4xx: it is not about one of them
REFUSED_SECONDS = 900.0  # longer than the longest wait between two attempts: nobody sends mails any more
CALL_SECONDS = 5.0  # until Xero or Slack has answered


@dataclass
class BrokerState:
    """What a relay or worker knows of RabbitMQ. `watched`: by the connection that watches it; `unconfirmed`: by the one of a
    relay that publishes, which is given up if a queue confirms nothing."""

    watched: Problem | None = None
    unconfirmed: Problem | None = None

    @property
    def problem(self) -> Problem | None:
        return self.watched or self.unconfirmed


async def watch_broker(url: str, state: BrokerState) -> None:
    """Keeps `watched` current. Never returns; survives outages of RabbitMQ."""
    await _watch(lambda: Amqp.open(url), state)


async def _watch(open_one: Callable[[], Awaitable[Amqp]], state: BrokerState) -> None:
    while True:
        try:
            async with await open_one() as amqp:
                while not amqp.lost.done():
                    state.watched = await amqp.problem()
                    await asyncio.wait({amqp.lost}, timeout=EVERY_SECONDS)
                await amqp.lost
        except ConnectionLost as error:
            # RabbitMQ closes a connection that it has blocked for a minute
            if not (state.watched is not None and state.watched.code == error.problem.code == "blocked"):
                state.watched = error.problem
        except LOST as error:
            state.watched = Problem("unreachable", in_words(error))
        await asyncio.sleep(EVERY_SECONDS)


@dataclass
class HostState:
    """What a relay knows of each address of several hosts: of RabbitMQ, whose connections it keeps, and of Postgres."""

    rabbitmq: dict[Address, BrokerState] = field(default_factory=dict)
    postgres: dict[Address, str | None] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, str]:
        """The hosts of RabbitMQ and Postgres that cannot be used, while others can, as `code: details`."""
        of_rabbitmq = {address: _of_host(state.watched) for address, state in self.rabbitmq.items()}
        problems = {}
        for name, hosts in (("RabbitMQ", lost(of_rabbitmq)), ("Postgres", lost(self.postgres))):
            if hosts:
                details = "; ".join(f"{host} {words}" for host, words in sorted(hosts.items()))
                problems[f"host of {name}"] = f"unusable: {details}"
        return problems


def _of_host(problem: Problem | None) -> str | None:
    """In words. An alarm is of the whole cluster."""
    return rabbitmq.state_of(str(problem)) if problem is not None and problem.code != "blocked" else None


async def watch_hosts(settings: Settings, state: HostState) -> None:
    """Never returns."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch_rabbitmq_hosts(settings.broker_url, state))
        group.create_task(_watch_postgres_hosts(settings.database_url, state))


async def _watch_rabbitmq_hosts(url: str, state: HostState) -> None:
    """Keeps a connection to each address, if there are several."""
    tasks: dict[Address, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            found = await asyncio.to_thread(hosts_of(url).addresses)
            found = found if len(found) > 1 else {}
            for address in tasks.keys() - found.keys():
                tasks.pop(address).cancel()
                del state.rabbitmq[address]
            for address in found.keys() - tasks.keys():
                broker = state.rabbitmq[address] = BrokerState()
                tasks[address] = group.create_task(_watch(partial(Amqp.open_at, found[address]), broker))
            await asyncio.sleep(EVERY_SECONDS)


async def _watch_postgres_hosts(database_url: str, state: HostState) -> None:
    while True:
        state.postgres = await postgres_hosts.try_all(database_url)
        await asyncio.sleep(EVERY_SECONDS)


@dataclass
class MailState:
    """Why the mail server cannot be used. `found`: as `code: details`, of all mails; None: it answers. A server may answer, and
    refuse each mail with 4xx: `refusals` is how often it has since it accepted one, the last time with `answer`."""

    found: str | None = None
    refusals: int = 0
    answer: str = ""
    refused_at: float = 0.0

    @property
    def problem(self) -> str | None:
        """As `code: details`; None: it can be used."""
        is_declining = self.refusals >= REFUSALS and time.monotonic() - self.refused_at < REFUSED_SECONDS
        declined = f"declined: {self.answer} (the last {self.refusals:,} attempts)" if is_declining else None
        return self.found or declined

    def failed(self, error: Exception) -> None:
        """After a mail that was not delivered."""
        self.found = smtp.describe_problem(error) or self.found
        if (answer := smtp.temporary_refusal(error)) is not None:
            self.refusals, self.answer, self.refused_at = self.refusals + 1, answer, time.monotonic()

    def worked(self) -> None:
        """After a mail that was delivered."""
        self.refusals = 0


mail_state = MailState()  # of this process


async def watch_mail(url: str, state: MailState) -> None:
    """Never returns."""
    state.found = await smtp.problem(url, seconds=MAIL_TIMEOUT_SECONDS)
    while True:
        await asyncio.sleep(MAIL_SECONDS)
        if state.found is not None:
            state.found = await smtp.problem(url, seconds=MAIL_TIMEOUT_SECONDS)


@dataclass
class CertificateState:
    """The certificates that end, by name, as `code: details`."""

    problems: dict[str, str] = field(default_factory=dict)


async def watch_certificates(settings: Settings, state: CertificateState) -> None:
    """Never returns."""
    while True:
        try:
            state.problems = await asyncio.to_thread(certificates.problems, settings.database_url, settings.broker_url)
        except Exception as error:  # what a file or a server contains must not end a relay
            logger.error("certificates could not be looked at: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(CERTIFICATES_SECONDS)


@dataclass
class ClusterState:
    """What is wrong with the cluster of RabbitMQ, by name, as `code: details`."""

    problems: dict[str, str] = field(default_factory=dict)


async def watch_cluster(settings: Settings, state: ClusterState) -> None:
    """Asks RabbitMQ's management API again and again. Returns at once without RABBITMQ_API_URL, else never."""
    while settings.rabbitmq_api_url is not None:
        try:
            virtual_host = hosts_of(settings.broker_url).virtual_host
            state.problems = await management.problems(settings.rabbitmq_api_url.get_secret_value(), virtual_host)
        except Exception as error:  # whatever a server answers must not end a relay
            logger.error("the cluster of RabbitMQ could not be looked at: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(CLUSTER_SECONDS)


calls: dict[str, str] = {}  # of this process: why Xero and Slack cannot be used, by name, as `code: details`


def call_failed(error: BaseException) -> None:
    """After an attempt that failed: notes the server, if the error is that it did not answer."""
    if isinstance(error, ServerFailed) and error.server is not None:
        calls[error.server] = f"unreachable: {error}"


async def watch_calls(settings: Settings) -> None:
    """Never returns. Looks again at a server that did not answer, until it does."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        for name in list(calls):
            try:
                found = await PROBES[name](settings)
            except Exception as error:  # whatever an answer contains must not end the worker's heartbeats
                logger.error("could not look at %s: %s", name, type(error).__name__, exc_info=error)
                continue
            if found is None:
                del calls[name]
            else:
                calls[name] = found


async def _of_slack(settings: Settings) -> str | None:
    from schemas.slack import client  # a worker that calls Slack has it; importing it takes 0.2 s

    try:
        async with client.open_client(settings) as slack:
            await slack.scopes(seconds=CALL_SECONDS)
    except client.SlackUnavailable as error:
        return f"unreachable: {error}"
    except (client.SlackRefused, RetryAfter):
        return None  # it answers
    return None


async def _of_xero(settings: Settings) -> str | None:
    from schemas.xero import oauth

    token = await _xero_token(settings)
    # without one, the call that renews it is the next to tell
    return await oauth.problem(settings, token, seconds=CALL_SECONDS) if token is not None else None


async def _xero_token(settings: Settings) -> str | None:
    from schemas.xero import tokens

    async with await connect(settings) as conn:
        return await tokens.valid_token(conn, settings)


PROBES: dict[str, Callable[[Settings], Awaitable[str | None]]] = {"Slack": _of_slack, "Xero": _of_xero}
