"""Three hosts with all of Stint: a node of RabbitMQ, an API and a worker on each, Postgres and a relay on two of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from ops.sandbox.xero.stand_in import environment as xero_environment
from ops.up.processes import spawn
from tests.cluster.brokers import Brokers
from tests.cluster.databases import Databases
from tests.cluster.network import Host, Network
from tests.faults.firm import HURRY
from tests.faults.firm_at_work import FirmAtWork
from tests.faults.proxy import Proxy
from tests.faults.retrying_client import PatientClient, PatientGiven, Traffic
from tests.support.fork_server import Process
from tests.support.installation import CHECKOUT, SHORT_WAITS, Installation, eventually
from tests.support.smtp import mail_server
from tests.support.xero_sandbox import running_xero

# A host that is gone is noticed soon. An API that is not answers itself, if it cannot reach its servers: a client that gave up
# before would not know whether its request is still carried out, perhaps after the next ones.
CLIENT_SECONDS = httpx2.Timeout(30, connect=2)
# After this time without acknowledgements of TCP, a host is gone, and another one is asked. 30 seconds are for a host that has
# the request.
SILENT_SECONDS = 4
GONE_HOST = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_SECONDS),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000),
]
API_PORT = 8000
PARTS = {"a": ("api", "work", "relay"), "b": ("api", "work", "relay"), "c": ("api", "work")}


class OnHost(Installation):
    """Stint's processes on one host. Start them in the main thread."""

    def __init__(self, host: Host, home: Path, environment: dict[str, str]) -> None:
        super().__init__(environment["DATABASE_URL"], environment["AMQP_URL"], home)
        self.host, self.environment = host, environment
        self.listen_at(host.address, API_PORT)

    def _command(self, name: str) -> list[str]:
        return ["api", "--host", self.address, "--port", str(self.port)] if name == "api" else ["actors", name]

    def _start_process(self, command: list[str], log: Path) -> Process | subprocess.Popen[bytes]:
        with self.host.inside():
            return spawn(
                [sys.executable, "-m", *command],
                log=log,
                environment=os.environ | self.environment,
                directory=CHECKOUT,
            )

    def start_missing(self) -> None:
        self.start(*(name for name in PARTS[self.host.name] if not self.is_running(name)))

    def kill_all(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def restart(self, name: str) -> None:
        """As a service does it: it ends properly, and is ready before the next one is restarted."""
        self.kill(name, signal.SIGTERM)
        self.start(name)
        if name == "api":
            self.wait_until_ready()


class Whole(Installation):
    """The installation as tests look at it: by the primary, whichever that is."""

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        ends = time.monotonic() + 60
        while True:
            try:
                return super().rows(query, *parameters)
            except psycopg.OperationalError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)


class RoamingClient(PatientClient):
    """Asks the API of the next host after each attempt without a response."""

    def __init__(self, traffic: Traffic, urls: list[str], first: int, headers: dict[str, str]) -> None:
        transport = httpx2.HTTPTransport(socket_options=GONE_HOST)
        super().__init__(
            traffic, timeout=CLIENT_SECONDS, base_url=urls[first % len(urls)], headers=headers, transport=transport
        )
        self._urls, self._next = urls, first

    def choose_another(self) -> None:
        self._next += 1
        self.base_url = httpx2.URL(self._urls[self._next % len(self._urls)])


class RoamingGiven(PatientGiven):
    """People whose clients know all APIs, and begin with different ones."""

    def __init__(self, stint: Installation, traffic: Traffic, urls: list[str]) -> None:
        super().__init__(stint, traffic)
        self._urls = urls

    def client(self, headers: dict[str, str]) -> httpx2.Client:
        made = RoamingClient(self._traffic, self._urls, len(self._clients), headers)
        self._clients.append(made)
        return made


@dataclass
class Site:
    """All of it. Hosts are a, b and c."""

    network: Network
    brokers: Brokers
    databases: Databases
    stint: dict[str, OnHost]  # by host
    firm: FirmAtWork

    def start_all(self) -> None:
        """Starts what has ended of RabbitMQ and Stint, and waits until all is whole."""
        for node in self.brokers.nodes.values():
            if not node.is_running():
                node.launch()
        for each in self.stint.values():
            each.start_missing()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        for node in self.brokers.nodes.values():
            node.wait(90)
        eventually(self.brokers.is_whole, seconds=90, why="each node of RabbitMQ runs and sees all others")
        for each in self.stint.values():
            each.wait_until_ready()


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """Runs everything below `home`, for as long as the block lasts. Call it from the main thread: servers end with the thread
    that started them."""
    home.chmod(0o711)  # Postgres has another account
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        brokers, databases = Brokers(home, network), Databases(home, network)
        stack.callback(brokers.stop)
        stack.callback(databases.stop)
        brokers.launch()
        databases.start()
        xero, mail = stack.enter_context(running_xero()), stack.enter_context(mail_server())
        proxies = [stack.enter_context(Proxy(f"127.0.0.1:{port}", host=network.gateway)) for port in (xero.port, mail.port)]
        to_xero, to_mail = (f"{network.gateway}:{proxy.port}" for proxy in proxies)
        whole = Whole(f"{databases.url}?target_session_attrs=read-write&connect_timeout=2", brokers.url, home)
        stack.callback(whole.stop)
        for name in SHORT_WAITS:
            del whole.environment[name]  # service is interrupted for as long as it would be in production
        # After a failover a bill waits for minutes, since its entry in Xero may have been made and its record been lost: no
        # user waits for that.
        whole.environment |= {name: value for name, value in HURRY.items() if name.startswith(("STINT_XERO", "XERO"))}
        whole.environment |= {
            "DATABASE_URL": databases.url,
            "STINT_QUEUE_TYPE": "quorum",
            "SMTP_URL": f"smtp://{to_mail}",
            "FIRM_EMAIL": "firm@example.com",
            **xero_environment(f"http://{to_xero}"),
        }
        stint: dict[str, OnHost] = {}
        for name, host in network.hosts.items():
            logs = home / f"stint-{name}"
            logs.mkdir()
            stint[name] = OnHost(host, logs, whole.environment)
            stack.callback(stint[name].stop)
        brokers.wait()
        for each in stint.values():
            each.start_missing()
        for each in stint.values():
            each.wait_until_ready()
        traffic = Traffic()
        urls = [each.url for each in stint.values()]
        given = stack.enter_context(contextlib.closing(RoamingGiven(whole, traffic, urls)))
        firm = FirmAtWork(xero, mail, whole, given, traffic, given.admin(), [])
        firm.open()
        yield Site(network, brokers, databases, stint, firm)
