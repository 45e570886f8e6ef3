"""A cluster of RabbitMQ: one node on each host."""

import asyncio
import contextlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ops.files import write_private
from ops.up.packages.rabbitmq import Installation, find_or_fetch, show_needed_plugins
from ops.up.processes import PLAIN_ENVIRONMENT, Child, spawn
from tests.cluster.network import Host, Network
from tests.support import rabbitmq_tools
from tests.support.installation import eventually

AMQP_PORT, MANAGEMENT_PORT = 5672, 15672
TICK_SECONDS = 10  # a node that is silent for 0.75 to 1.25 times as long is down for the others
# the arguments of RabbitMQ's own start script, for little CPU time: `+S 1:1`, and no busy waiting
VM_ARGUMENTS = (
    "-noinput -s rabbit boot -boot start_sasl +W w +S 1:1 +A 4 +P 1048576 +t 5000000 +stbt u +zdbbl 128000 "
    "+sbwt none +sbwtdcpu none +sbwtdio none -syslog logger [] -syslog syslog_error_logger false "
    "-kernel prevent_overlapping_partitions false"
).split()


class Node(Child):
    """RabbitMQ on one host. `data` may be deleted while it is stopped."""

    stop_seconds = 30.0

    def __init__(self, brokers: "Brokers", host: Host) -> None:
        super().__init__(f"rabbitmq {host.name}", brokers.home / f"rabbitmq-{host.name}.log")
        self.brokers, self.host = brokers, host
        self.node = f"stint-{host.name}@{host.address}"
        self.directory = brokers.home / f"rabbitmq-{host.name}"
        self.data = self.directory / "data"
        self.epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://stint:{self.brokers.password}@{self.host.address}:{AMQP_PORT}/%2F"

    def launch(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self._write_configuration()
        arguments = ["-kernel", "inet_dist_use_interface", f"{{{self.host.address.replace('.', ',')}}}"]
        with self.host.inside():
            self.brokers.start_port_mapper(self)
            self.process = spawn(
                [self.brokers.installation.runtime / "erlexec", *VM_ARGUMENTS, *arguments],
                log=self.log,
                environment=self._environment(),
                directory=self.directory,
            )

    def is_ready(self) -> bool:
        if not self.is_running():
            return False
        try:
            with self.host.inside(), socket.create_connection((self.host.address, AMQP_PORT), 1) as connection:
                connection.settimeout(2)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # the type of the frame with Connection.Start
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wipe(self) -> None:
        """Deletes its data, like the loss of its disk. Only while it is stopped."""
        assert not self.is_running()
        shutil.rmtree(self.data)

    def evaluate(self, code: str) -> str:
        """The output of Erlang code that a second node evaluates on the host. It may use Node, this node's name. Raises
        AssertionError if the code fails."""
        helper = f"helper{secrets.token_hex(4)}@{self.host.address}"
        code = f"Node = '{self.node}', {code} halt(0)."
        command = [str(self.brokers.installation.runtime / "erlexec"), "-noinput", "-hidden", "-name", helper, "-eval", code]
        with self.host.inside():
            done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{code}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def limit_free_disk(self, limit: str) -> None:
        """Sets how much of the disk has to be free, such as 50MB. `rabbitmqctl` would need half a minute on a busy machine."""
        self.evaluate(f'ok = rpc:call(Node, rabbit_disk_monitor, set_disk_free_limit, ["{limit}"]),')

    def control(self, program: str, *arguments: str, seconds: float = 60) -> str:
        """Runs `rabbitmqctl` or `rabbitmq-queues` for this node, for at most `seconds`."""
        tool = rabbitmq_tools.command(self.brokers.installation, program)
        command = [*tool, "--longnames", "-n", self.node, *arguments]
        with self.host.inside():
            done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    def _write_configuration(self) -> None:
        settings = {
            "listeners.tcp.1": f"{self.host.address}:{AMQP_PORT}",
            "load_definitions": str(self.brokers.definitions),
            "cluster_formation.peer_discovery_backend": "classic_config",
            **{
                f"cluster_formation.classic_config.nodes.{number}": node.node
                for number, node in enumerate(self.brokers.nodes.values(), start=1)
            },
            "cluster_partition_handling": "pause_minority",
            **({"management.tcp.ip": self.host.address} if self.brokers.plugin_names else {}),
            "net_ticktime": str(TICK_SECONDS),  # as in docs/deployment.md
            "vm_memory_high_watermark.absolute": "512MB",
            "disk_free_limit.absolute": "50MB",
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
            "log.console.use_colors": "off",
        }
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        write_private(self.directory / "rabbitmq.conf", "".join(lines))
        write_private(self.directory / "enabled_plugins", f"[{','.join(self.brokers.plugin_names)}].\n")

    def _environment(self) -> dict[str, str]:
        named = self.brokers.installation.node_environment(
            self.node,
            home=self.brokers.home,  # the cookie is the same for all nodes
            directory=self.directory,
            data=self.data,
            plugins=self.brokers.plugins,
            port_mapper=(self.host.address, self.brokers.epmd_port),
            port=self.brokers.first_port + ord(self.host.name),  # hosts may share a port mapper
        )
        return named | {"RABBITMQ_USE_LONGNAME": "true"}


class Brokers:
    """The nodes by the name of their host."""

    def __init__(self, home: Path, network: Network, *, plugin_names: Sequence[str] = ()) -> None:
        self.home, self.network, self.plugin_names = home / "brokers", network, plugin_names
        self.plugins = self.home / "server" / "plugins"
        self.definitions = self.home / "definitions.json"
        self.password = secrets.token_urlsafe(18)
        self.epmd_port, self.first_port = random.randrange(21_000, 31_500), random.randrange(31_501, 32_500)
        self.home.mkdir(parents=True)
        write_private(self.home / ".erlang.cookie", secrets.token_hex(20))
        (self.home / ".erlang.cookie").chmod(0o400)
        self.installation: Installation = asyncio.run(find_or_fetch(self.home, lambda _: None))
        show_needed_plugins(self.installation.server / "plugins", self.plugins, also=plugin_names)
        write_private(
            self.definitions,
            '{"users": [{"name": "stint", "password": "PASSWORD", "tags": ["administrator"]}, '
            '{"name": "monitor", "password": "PASSWORD", "tags": ["monitoring"]}], "vhosts": [{"name": "/"}], '
            '"permissions": [{"user": "stint", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}, '
            '{"user": "monitor", "vhost": "/", "configure": "^$", "write": "^$", "read": "^$"}]}'.replace(
                "PASSWORD", self.password
            ),
        )
        self.nodes = {name: Node(self, host) for name, host in network.hosts.items()}
        self._port_mappers: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """AMQP_URL, with all nodes, as in docs/deployment.md."""
        return ",".join(f"{node.url}?heartbeat=5" for node in self.nodes.values())

    def start_port_mapper(self, node: Node) -> None:
        """Erlang's epmd, one for each namespace; inside the node's host."""
        mapper = self._port_mappers.get(node.host.namespace)
        if mapper is not None and mapper.poll() is None:
            return
        here = [node.host] if node.host.namespace else self.network.hosts.values()
        addresses = ",".join(host.address for host in here)
        command: list[str | Path] = [self.installation.runtime / "epmd", "-port", str(self.epmd_port), "-address", addresses]
        started = spawn(command, log=self.home / "epmd.log", environment=PLAIN_ENVIRONMENT)
        self._port_mappers[node.host.namespace] = started

    def launch(self) -> None:
        for node in self.nodes.values():
            node.launch()

    def wait(self) -> None:
        for node in self.nodes.values():
            node.wait(90)
        eventually(self.is_whole, seconds=60, why="all nodes are in one cluster")

    def is_whole(self) -> bool:
        """Whether each node runs, sees all others, and still does so when it has had the time to notice that one was silent. It
        pauses then, if it was in a minority."""
        if not self._all_see_all():
            return False
        time.sleep(TICK_SECONDS / 2)
        return self._all_see_all()

    def _all_see_all(self) -> bool:
        code = 'io:format("~p", [catch length(rpc:call(Node, rabbit_nodes, all_running, []))]),'
        return all(node.is_ready() and node.evaluate(code) == str(len(self.nodes)) for node in self.nodes.values())

    def leaders(self) -> dict[str, str]:
        """The host with the leader of each quorum queue, by the queue's name."""
        code = """
            Queues = rpc:call(Node, rabbit_amqqueue, list, []),
            [io:format("~s ~s~n", [element(4, amqqueue:get_name(Q)), element(2, amqqueue:get_pid(Q))]) || Q <- Queues],
        """
        nodes = {node.node: name for name, node in self.nodes.items()}
        asked = next(node for node in self.nodes.values() if node.is_ready())
        return {queue: nodes[node] for queue, node in (line.split() for line in asked.evaluate(code).splitlines())}

    def stop(self) -> None:
        for node in self.nodes.values():
            node.kill()
        for mapper in self._port_mappers.values():
            mapper.kill()
            mapper.wait()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.home / "server")
