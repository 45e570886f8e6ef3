"""A worker that cannot use RabbitMQ, while relays and others can, is named with the cause, and is no worker of its queues."""

import asyncio
import json
import signal
import socket
from urllib.parse import urlsplit

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.outbox import heartbeats, metrics
from schemas.outbox.metrics import QueueDepth
from tests.faults.proxy import Proxy, target_of, through
from tests.outbox.rows import connected
from tests.support.installation import Installation, eventually

ALIVE, WAITING = 'stint_alive{kind="work",queue="timers"}', 'stint_workers_waiting{queue="timers"}'


def _counts(own: Installation) -> tuple[int, int]:
    """How many workers for timers take messages, and how many cannot use RabbitMQ, by the metrics."""

    async def read() -> list[str]:
        async with connected(own.database_url) as conn:
            return await metrics.metrics(conn)

    found = dict(line.rsplit(" ", 1) for line in asyncio.run(read()) if not line.startswith("#"))
    return int(found[ALIVE]), int(found[WAITING])


def _findings(own: Installation) -> list[str]:
    return [each["what"] for each in json.loads(own.command("doctor", "--json").stdout)]


def _start_worker(own: Installation, amqp_url: str) -> str:
    """Starts a worker for timers with that URL, and returns its name."""
    usual = own.environment["AMQP_URL"]
    own.environment["AMQP_URL"] = amqp_url
    own.start("work:timers")
    own.environment["AMQP_URL"] = usual
    return f"{socket.gethostname()}:{own.processes['work:timers'].pid}"


def test_a_running_worker_that_is_cut_off_is_named_until_it_is_back(own: Installation) -> None:
    own.start("relay", "work:bills,xero,slack,mail")
    with Proxy(target_of(own.amqp_url)) as proxy:
        worker = _start_worker(own, through(proxy, own.amqp_url))
        eventually(lambda: _counts(own) == (1, 0), seconds=40)
        proxy.refuse()
        eventually(lambda: _counts(own) == (0, 1), seconds=40)
        first, *others = _findings(own)
        assert first.startswith("RabbitMQ does not answer: ") and first.endswith(f" (seen by the worker {worker} alone).")
        assert not any("No worker" in each for each in others), others
        proxy.heal()
        eventually(lambda: _counts(own) == (1, 0), seconds=40)
        own.kill("work:timers", signal.SIGTERM)


def test_a_worker_that_starts_while_rabbitmq_is_silent_waits_until_it_answers(own: Installation) -> None:
    own.start("relay", "work:bills,xero,slack,mail")
    with Proxy(target_of(own.amqp_url)) as proxy:
        proxy.blackhole()  # it accepts connections and answers nothing, like a RabbitMQ that is frozen
        worker = _start_worker(own, through(proxy, own.amqp_url))
        eventually(lambda: _counts(own) == (0, 1), seconds=60)
        assert own.processes["work:timers"].poll() is None
        first, *others = _findings(own)
        assert first.startswith("RabbitMQ does not answer: ") and first.endswith(f" (seen by the worker {worker} alone).")
        assert not any("No worker" in each for each in others), others
        proxy.heal()
        eventually(lambda: _counts(own) == (1, 0), seconds=60)
        own.kill("work:timers", signal.SIGTERM)


def test_a_worker_that_starts_with_a_wrong_password_is_named_and_records_its_end(own: Installation) -> None:
    own.start("relay", "work:bills,xero,slack,mail")
    parts = urlsplit(own.amqp_url)
    worker = _start_worker(own, parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl())
    eventually(lambda: _counts(own) == (0, 1), seconds=40)
    eventually(lambda: own.rows("SELECT FROM heartbeats WHERE 'mail' = ANY(queues) AND problems = '{}'"), seconds=40)
    first, *others = _findings(own)
    assert first.startswith("RabbitMQ refuses the login: ACCESS_REFUSED"), first
    assert first.endswith(f" (seen by the worker {worker} alone).")
    assert not any("No worker" in each for each in others), others
    own.kill("work:timers", signal.SIGTERM)
    assert own.value("SELECT ended_at < 'infinity' FROM heartbeats WHERE process = %s", worker)


def test_a_worker_whose_queues_are_missing_at_rabbitmq_says_so(own: Installation) -> None:
    worker = _start_worker(own, own.amqp_url)  # no relay has declared them
    eventually(lambda: own.rows("SELECT FROM heartbeats WHERE problems->>'queues' LIKE 'missing: NOT_FOUND%%'"), seconds=40)
    assert _counts(own) == (0, 0)

    async def read() -> InstallationStatus:
        async with connected(own.database_url) as conn:
            found = await heartbeats.processes(conn)
        return InstallationStatus(servers={"Postgres": "ok"}, processes=found, queues=[QueueDepth(name="timers")])

    finding = diagnose(asyncio.run(read()))[-1]
    assert finding.what.startswith(f"No worker takes messages of the queue timers: {worker} waits for its queues: NOT_FOUND")
    own.start("relay")
    eventually(lambda: _counts(own) == (1, 0), seconds=40)
