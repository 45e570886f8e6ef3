"""A private RabbitMQ: a node with its own port mapper, ports, password and data, on loopback and below one directory."""

import json
import random
import re
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.files import write_private
from ops.up.packages.debian import Say
from ops.up.packages.rabbitmq import Installation, find_or_fetch, show_needed_plugins
from ops.up.processes import PLAIN_ENVIRONMENT, Child, end_leftovers, spawn

# Outside the range of outgoing connections, so that none of them takes the port during a restart.
_PORTS = range(21000, 32000)
_USER = "stint"

# The arguments of RabbitMQ's own start script, which is not used because it fails on paths with a space.
_VM_ARGUMENTS = (
    "-pa '' -noinput -s rabbit boot -boot start_sasl +W w +MBas ageffcbf +MHas ageffcbf +MBlmbcs 512 +MHlmbcs 512 "
    "+MMmcs 30 +P 1048576 +t 5000000 +stbt u +zdbbl 128000 +sbwt none +sbwtdcpu none +sbwtdio none "
    "-kernel inet_dist_use_interface {127,0,0,1} -syslog logger [] -syslog syslog_error_logger false "
    "-kernel prevent_overlapping_partitions false"
)


class PortMapper(Child):
    """Erlang's epmd, on loopback. Otherwise the node would start a daemon that listens on all interfaces and stays behind."""

    def __init__(self, broker: "RabbitMQ") -> None:
        super().__init__("epmd", broker.log.with_name("epmd.log"))
        self.broker = broker

    def launch(self) -> None:
        port = self.broker.ports["epmd"]
        self.process = spawn(
            [self.broker.installation.runtime / "epmd", "-port", str(port), "-address", "127.0.0.1"],
            log=self.log,
            environment=PLAIN_ENVIRONMENT,
        )

    def is_ready(self) -> bool:
        return self.is_running() and _listens(self.broker.ports["epmd"])


class RabbitMQ(Child):
    """A private RabbitMQ below `home`. Its ports and password are stored there, so that its URL stays the same. It chooses
    other ports only while it has never been ready."""

    def __init__(self, home: Path, *, vhosts: Sequence[str] = ()) -> None:
        super().__init__("rabbitmq", home / "logs" / "rabbitmq.log")
        self.home = home
        self.directory = home / "rabbitmq"
        self.vhosts = ("/", *vhosts)
        self.port_mapper = PortMapper(self)
        self.ports: Mapping[str, int] = {}
        self._installation: Installation | None = None
        self._password = ""
        self._attempted = self._was_ready = False
        self._log_start = 0

    @property
    def installation(self) -> Installation:
        if self._installation is None:
            raise RuntimeError("prepare() comes before launch()")
        return self._installation

    @property
    def data(self) -> Path:
        # Another version starts with an empty directory and need not read the old format: the outbox has all messages.
        # "-classic": the directory without it has the quorum queues of earlier versions of Stint.
        return self.directory / f"data-{self.installation.version}-classic"

    @property
    def amqp_url(self) -> str:
        return self.amqp_url_of("/")

    def amqp_url_of(self, vhost: str) -> str:
        path = "%2F" if vhost == "/" else vhost
        return f"amqp://{_USER}:{self._password}@127.0.0.1:{self.ports['amqp']}/{path}"

    async def prepare(self, say: Say = lambda _: None) -> None:
        """Finds RabbitMQ or downloads it, and determines the URL. `say` gets progress."""
        self._installation = await find_or_fetch(self.home, say)
        for part in ("home", "log", "server/plugins"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._password = _get_or_create_password(self.directory / "password")
        self._choose_ports()

    def launch(self) -> None:
        if self._attempted and not self._was_ready:
            self._choose_ports()  # the last launch may have failed because of its ports
        self._attempted = True
        end_leftovers("beam.smp", self.directory)
        self._write_configuration()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        if not self.port_mapper.is_running():
            self.port_mapper.start(timeout_seconds=10)
        self.process = spawn(
            [self.installation.runtime / "erlexec", *_vm_arguments()],
            log=self.log,
            environment=self._environment(),
            directory=self.directory,
        )

    def is_ready(self) -> bool:
        if not (self.is_running() and _speaks_amqp(self.ports["amqp"])):
            return False
        if self._lost_queues():
            self.kill()
            self.empty()
            self.launch()
            return False
        self._was_ready = True
        return True

    def stop(self) -> None:
        super().stop()
        self.port_mapper.stop()

    def empty(self) -> None:
        """Deletes all queues and messages, like the loss of its disk. Only while it is stopped."""
        if self.is_running():
            raise RuntimeError("stop it first")
        shutil.rmtree(self.data, ignore_errors=True)

    def _lost_queues(self) -> bool:
        """Whether this start found quorum queues without a leader. A node that is killed within a second of declaring a queue
        forgets its name (seen with 3.10), and the queue never answers again. Starting empty is safe: the outbox publishes
        again what was in the queues."""
        with open(self.log, errors="replace") as log:
            log.seek(min(self._log_start, self.log.stat().st_size))
            text = log.read()
        known = re.search(r"quorum_queues'? running pre init for (\d+) registered", text)
        declared = sum(map(int, re.findall(r"Recovering (\d+) queues of type rabbit_quorum_queue", text)))
        return known is not None and int(known[1]) < declared

    def _choose_ports(self) -> None:
        """Uses the stored ports that are free, and chooses others instead of those that are not."""
        file = self.directory / "ports.json"
        try:
            stored: dict[str, int] = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            stored = {}
        ports: dict[str, int] = {}
        for use in ("amqp", "distribution", "epmd"):
            port = int(stored.get(use) or 0)
            mine = use == "epmd" and self.port_mapper.is_running()
            while not mine and (port not in _PORTS or port in ports.values() or not _is_free(port)):
                port = random.choice(_PORTS)  # noqa: S311 - not a secret
            ports[use] = port
        write_private(file, json.dumps(ports))
        self.ports = ports

    def _write_configuration(self) -> None:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": _USER, "password": self._password, "tags": ["administrator"]}],
            "vhosts": [{"name": vhost} for vhost in self.vhosts],
            "permissions": [{"user": _USER, "vhost": vhost, **everything} for vhost in self.vhosts],
        }
        write_private(self.directory / "definitions.json", json.dumps(definitions))
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.ports['amqp']}",
            # Read at every start, so that the password in the file is always the right one.
            "load_definitions": str(self.directory / "definitions.json"),
            "vm_memory_high_watermark.absolute": "512MB",
            "disk_free_limit.absolute": "50MB",
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
            "log.console.use_colors": "off",
        }
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        write_private(self.directory / "rabbitmq.conf", "".join(lines))
        write_private(self.directory / "enabled_plugins", "[].\n")
        show_needed_plugins(self.installation.server / "plugins", self.directory / "server" / "plugins")

    def _environment(self) -> dict[str, str]:
        return self.installation.node_environment(
            f"{_USER}@localhost",
            home=self.directory / "home",
            directory=self.directory,
            data=self.data,
            plugins=self.directory / "server" / "plugins",
            port_mapper=("127.0.0.1", self.ports["epmd"]),
            port=self.ports["distribution"],
        )


def _vm_arguments() -> list[str]:
    return [part.strip("'") for part in _VM_ARGUMENTS.split()]


def _get_or_create_password(file: Path) -> str:
    if not file.exists():
        write_private(file, secrets.token_urlsafe(18))
    return file.read_text().strip()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Ignore connections that have just ended: RabbitMQ can listen nevertheless.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def _speaks_amqp(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"  # the type of the frame with Connection.Start
    except OSError:
        return False
