"""A whole firm as processes: servers, stand-ins for Xero, Slack and mail, a proxy in front of each, and `./stint up`."""

import contextlib
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psycopg

from ops.sandbox.slack import requests
from ops.sandbox.slack.stand_in import environment as slack_environment
from ops.sandbox.slack.workspace import SIGNING_SECRET
from ops.sandbox.xero.stand_in import environment as xero_environment
from ops.up.servers import Servers
from schemas.messages import QUEUES
from schemas.postgres.pool import POOL_SIZE, UNQUEUED_SIZE
from tests.faults.firm_at_work import FirmAtWork
from tests.faults.proxy import Proxy
from tests.faults.retrying_client import PatientGiven, Traffic
from tests.support.given import Json
from tests.support.installation import SECRET_KEY, SHORT_WAITS, Installation, eventually, with_database
from tests.support.slack_sandbox import SlackSandbox, running_slack_sandbox
from tests.support.smtp import mail_server
from tests.support.up import Up
from tests.support.xero_sandbox import running_xero

CHANNELS = 4  # each takes a message a second: enough for all that members post, and for what has waited
# what takes an installation minutes takes this one seconds; Xero's limits are a matter of their own (tests/xero/test_limits.py)
HURRY = SHORT_WAITS | {
    "STINT_SENT_SECONDS": "10",
    "STINT_XERO_CALL_SECONDS": "3",
    "STINT_XERO_LATE_SECONDS": "8",
    "STINT_XERO_LAG_SECONDS": "1",
    "STINT_MAIL_SECONDS": "3",
    "XERO_CALLS_PER_MINUTE": "6000",
    "XERO_CALLS_AT_ONCE": "20",
    "FIRM_EMAIL": "firm@example.com",
}


@dataclass
class WholeFirm(FirmAtWork):
    """All processes. `stint` connects to the servers without the proxies; `up` is under test."""

    servers: Servers
    proxies: dict[str, Proxy]  # postgres, rabbitmq, xero, slack, smtp
    slack: SlackSandbox
    up: Up
    channels: list[str]  # of Slack, mapped to the first customer

    def heal(self) -> None:
        """Fair weather, whatever there was."""
        for proxy in self.proxies.values():
            proxy.heal()
        self.heal_stand_ins()

    def heal_stand_ins(self) -> None:
        self.xero.clear_faults()
        self.slack.clear_faults()
        self.mail.answers.clear()
        self.mail.seconds = 0

    def wait_until_warm(self, *, seconds: float) -> None:
        """Returns when workers have done some of everything, each kind of which takes memory once: on a busy machine, late."""
        done = "SELECT count(*) >= 20 FROM messages WHERE queue = %s AND state = 'done'"
        eventually(
            lambda: all(self.stint.value(done, queue) for queue in QUEUES), seconds=seconds, why="all queues are worked on"
        )

    def fill_pools(self) -> None:
        """Makes the API open its maximum of connections to Postgres, in each of its two pools, by concurrent requests that wait
        for a table which no other process uses: otherwise a pool that grows later would look like a leak."""
        self._fill_pool("leads", POOL_SIZE, lambda: self.admin.get("/api/leads"))
        # each request has a connection of its own, which may lead to another process than the one before
        with httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=30) as client:
            self._fill_pool("slack_deduplication", UNQUEUED_SIZE, lambda: self._send_event(client))

    def _send_event(self, client: httpx2.Client) -> None:
        event = {"type": "user_change", "user": {"id": "U0NOBODY"}}
        sent = requests.event(event, event_id=f"Ev{secrets.token_hex(8)}")
        client.post(f"{self.up.url}{sent.path}", content=sent.body, headers=sent.headers)

    def _fill_pool(self, table: str, size: int, request: Callable[[], object]) -> None:
        """Each request is repeated until the pool is full: one that waits is answered with 503 within two seconds, and on
        a busy machine that is earlier than the last of the others begins to wait."""
        processes = len(self.pids("api"))
        requests_at_once = 2 * size * processes**2  # the processes accept them unevenly
        is_full = threading.Event()

        def repeat() -> None:
            request()
            while not is_full.is_set():
                request()

        with ThreadPoolExecutor(requests_at_once) as pool, self.stint.sql() as conn, conn.transaction():
            conn.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            answers = [pool.submit(repeat) for _ in range(requests_at_once)]
            try:
                eventually(
                    lambda: self._waiting_for(table) >= size * processes,
                    seconds=60,
                    why=f"all connections of a pool wait for the table {table}",
                )
            finally:
                is_full.set()
        for answer in answers:
            answer.result()

    def _waiting_for(self, table: str) -> int:
        return int(
            self.stint.value("SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = %s::regclass AND NOT granted", table)
        )

    def posts(self) -> list[Json]:
        """What stands in the channels."""
        return [message for channel in self.channels for message in self.slack.messages(channel)]

    def pids(self, *kinds: str) -> list[int]:
        """Stint's own processes, as `up` knows them now: of kind `api`, `work` or `relay`; of all three without a name."""
        known = self.up.run_json()["pids"]
        return [pid for kind in kinds or ("api", "work", "relay") for pid in known[kind]]


@contextmanager
def whole_firm(home: Path) -> Iterator[WholeFirm]:
    """Runs everything below `home`, for as long as the block lasts. Call it from the main thread: servers end with the
    thread that started them."""
    with ExitStack() as stack:
        home.chmod(0o711)
        servers = stack.enter_context(Servers(home / "servers", durable=False))
        with psycopg.connect(servers.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE firm")
        xero, slack, mail = (
            stack.enter_context(running_xero()),
            stack.enter_context(running_slack_sandbox()),
            stack.enter_context(mail_server()),
        )
        amqp, truth = urlsplit(servers.amqp_url), with_database(servers.database_url, "firm")
        proxies = {
            "postgres": Proxy(str(servers.postgres.sockets / ".s.PGSQL.5432")),
            "rabbitmq": Proxy(f"127.0.0.1:{amqp.port}"),
            "xero": Proxy(f"127.0.0.1:{xero.port}"),
            "slack": Proxy(f"127.0.0.1:{slack.port}"),
            "smtp": Proxy(f"127.0.0.1:{mail.port}"),
        }
        for proxy in proxies.values():
            proxy.start()
            stack.callback(proxy.stop)
        environment = HURRY | {
            "SECRET_KEY": SECRET_KEY,
            "SLACK_SIGNING_SECRET": SIGNING_SECRET,
            "DATABASE_URL": f"postgresql://stint@127.0.0.1:{proxies['postgres'].port}/firm",
            "AMQP_URL": servers.amqp_url.replace(f":{amqp.port}/", f":{proxies['rabbitmq'].port}/"),
            "SMTP_URL": f"smtp://127.0.0.1:{proxies['smtp'].port}",
            **xero_environment(f"http://127.0.0.1:{proxies['xero'].port}"),
            **slack_environment(f"http://127.0.0.1:{proxies['slack'].port}"),
        }
        up = Up(home / "state")
        up.start(**environment)
        stack.callback(up.end, signal.SIGTERM)
        stint = Installation(truth, servers.amqp_url, home, **environment | {"DATABASE_URL": truth})
        stint.port, stint.url = up.port, up.url
        traffic = Traffic()
        given = stack.enter_context(contextlib.closing(PatientGiven(stint, traffic)))
        firm = WholeFirm(xero, mail, stint, given, traffic, given.admin(), [], servers, proxies, slack, up, [])
        firm.open()
        for _ in range(CHANNELS):
            firm.channels.append(slack.channel())
            mapped = {"channelId": firm.channels[-1], "channelName": "acme", "customerId": firm.tasks[0]["customerId"]}
            firm.admin.post("/api/slack/channel-mappings", mapped)
        yield firm
