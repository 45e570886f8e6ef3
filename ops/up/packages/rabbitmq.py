"""Where RabbitMQ comes from: the installed one, or Debian's packages, unpacked into a private cache without root."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.errors import CommandError
from ops.up.packages.debian import Packages, Say, can_download, unpacked
from ops.up.processes import PLAIN_ENVIRONMENT

# A directory with unpacked packages of RabbitMQ and Erlang, such as those of another release of Debian: these are used.
ROOT = "STINT_RABBITMQ_ROOT"
_OLDEST = (3, 10)  # the first version whose quorum queues have what the relay needs
_PACKAGES = Packages(
    "rabbitmq",
    (
        "rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia "
        "erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl "
        "erlang-syntax-tools erlang-tftp erlang-tools erlang-xmerl"
    ).split(),
    megabytes=35,
)
_OTHERWISE = "Install rabbitmq-server 3.10 or newer, set AMQP_URL to one of your own, or use `docker compose up`."


@dataclass(frozen=True)
class Installation:
    """A RabbitMQ on disk: where its server and its Erlang are."""

    server: Path
    erlang: Path
    runtime: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.server.name.removeprefix("rabbitmq_server-")

    def node_environment(
        self, name: str, *, home: Path, directory: Path, data: Path, plugins: Path, port_mapper: tuple[str, int], port: int
    ) -> dict[str, str]:
        """All of the environment of the node `name`, as RabbitMQ's own start script sets it. `home` has its cookie, `directory`
        its configuration and log; other nodes reach it at `port`, which they learn from the port mapper."""
        return (
            PLAIN_ENVIRONMENT
            | self.environment
            | {
                "PATH": f"{self.erlang}/bin:{PLAIN_ENVIRONMENT['PATH']}",
                "HOME": str(home),
                "ROOTDIR": str(self.erlang),
                "BINDIR": str(self.runtime),
                "EMU": "beam",
                "PROGNAME": "erl",
                "ERL_LIBS": str(plugins),
                "ERL_EPMD_ADDRESS": port_mapper[0],
                "ERL_EPMD_PORT": str(port_mapper[1]),
                "ERL_CRASH_DUMP_SECONDS": "0",
                "ERL_MAX_ETS_TABLES": "50000",
                "ERL_MAX_PORTS": "65536",
                "RABBITMQ_HOME": str(plugins.parent),
                "RABBITMQ_PLUGINS_DIR": str(plugins),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
                "RABBITMQ_NODENAME": name,
                "RABBITMQ_DIST_PORT": str(port),
                "RABBITMQ_MNESIA_BASE": str(data),
                "RABBITMQ_LOG_BASE": str(directory / "log"),
                "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": os.devnull,
            }
        )


async def find_or_fetch(home: Path, say: Say, *, system: Path = Path("/")) -> Installation:
    """The RabbitMQ that ROOT names; without it the system's if it is new enough, otherwise the cached one, which is downloaded
    when it is missing. The cache is below `home` if the user's cache directory cannot be written."""
    if chosen := os.environ.get(ROOT):
        if found := _installation_below(Path(chosen)):
            return found
        raise CommandError(f"{ROOT} is {chosen}, which has no RabbitMQ 3.10 or newer with Erlang. Unset it, or unpack both.")
    if found := _installation_below(system):
        return found
    if not can_download():
        raise CommandError(f"No RabbitMQ is installed here, and without apt it cannot be downloaded. {_OTHERWISE}")
    try:
        root = await unpacked(_PACKAGES, home, say)
    except CommandError as error:
        raise CommandError(f"RabbitMQ is not installed here and could not be downloaded: {error}\n{_OTHERWISE}") from error
    if found := _installation_below(root):
        return found
    raise CommandError(f"Debian's packages contain no RabbitMQ that Stint can use. {_OTHERWISE}")


def show_needed_plugins(plugins: Path, shown: Path, *, also: Sequence[str] = ()) -> None:
    """Fills `shown` with links to the plugins that the application `rabbit` needs, and to `also` with what these need. A start
    spends most of its time with looking up modules in every plugin it finds: with only these it takes half as long."""
    needed: set[str] = set()
    to_visit = ["rabbit", *also]
    found: dict[str, Path] = {}
    for path in plugins.iterdir():
        found[path.name.rsplit("-", 1)[0]] = path
    while to_visit:
        name = to_visit.pop()
        if name not in needed and name in found:
            needed.add(name)
            to_visit += _applications(found[name] / "ebin" / f"{name}.app")
    shutil.rmtree(shown, ignore_errors=True)
    shown.mkdir(parents=True)
    # In an unknown layout (archives instead of directories), link all.
    for name in needed if "rabbit_common" in needed else found:
        (shown / found[name].name).symlink_to(found[name])


def _applications(description: Path) -> list[str]:
    try:
        text = description.read_text(errors="replace")
    except OSError:
        return []
    lists = re.findall(r"\{\s*(?:included_)?applications\s*,\s*\[([^\]]*)\]", text)
    return [name.strip(" '\n\t") for part in lists for name in part.split(",")]


def _installation_below(root: Path) -> Installation | None:
    servers = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"), key=_version, reverse=True)
    runtimes = sorted(root.glob("usr/lib/erlang/erts-*/bin"))
    if not servers or not runtimes or _version(servers[0]) < _OLDEST:
        return None
    return Installation(servers[0], root / "usr/lib/erlang", runtimes[-1])


def _version(server: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", server.name.removeprefix("rabbitmq_server-"))[:3])
