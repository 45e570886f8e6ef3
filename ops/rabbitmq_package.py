"""Where RabbitMQ comes from: the system's own, or Debian's packages unpacked into a private cache, without root."""

import asyncio
import contextlib
import os
import platform
import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops.errors import CommandError
from ops.files import try_lock
from ops.processes import PLAIN_ENVIRONMENT, run

Say = Callable[[str], None]

_OLDEST = (3, 10)  # quorum queues with what the relay relies on
_PACKAGES = (
    "rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia "
    "erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl "
    "erlang-syntax-tools erlang-tftp erlang-tools erlang-xmerl"
).split()
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


async def find_or_fetch(home: Path, say: Say) -> Installation:
    """The system's RabbitMQ when it is new enough, else the cached one, fetched first when there is none. `home` holds
    the cache where the user's own cache directory cannot be written."""
    if found := _installation_below(Path("/")):
        return found
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CommandError(f"No RabbitMQ is installed here, and without apt it cannot be fetched. {_OTHERWISE}")
    cache = _cache_directory(home)
    root = cache / f"rabbitmq-{_system_name()}"
    if not root.exists():
        async with _alone(cache / "rabbitmq.lock", say):
            if not root.exists():
                await _fetch(cache, root, say)
    if found := _installation_below(root):
        return found
    raise CommandError(f"Debian's packages hold no RabbitMQ that Stint can use. {_OTHERWISE}")


def show_needed_plugins(plugins: Path, shown: Path) -> None:
    """Fills `shown` with links to what the application `rabbit` needs. A start spends most of its time looking modules
    up in every plugin it can see: half as long with these alone."""
    needed: set[str] = set()
    waiting = ["rabbit"]
    found: dict[str, Path] = {}
    for path in plugins.iterdir():
        found[path.name.rsplit("-", 1)[0]] = path
    while waiting:
        name = waiting.pop()
        if name not in needed and name in found:
            needed.add(name)
            waiting += _applications(found[name] / "ebin" / f"{name}.app")
    shutil.rmtree(shown, ignore_errors=True)
    shown.mkdir(parents=True)
    # A layout that we do not know (archives instead of directories): show all.
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


def _cache_directory(home: Path) -> Path:
    """The user's cache, shared by all states; below `home` where that cannot be written."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for cache in (Path(user_cache) / "stint", home / "cache"):
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            if cache.is_absolute() and os.access(cache, os.W_OK | os.X_OK):
                return cache
    raise CommandError(f"Neither {user_cache} nor {home} can be written.")


def _system_name() -> str:
    """Packages of one release and architecture fit no other."""
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'unknown')}-{platform.machine()}"


@contextlib.asynccontextmanager
async def _alone(lock: Path, say: Say) -> AsyncIterator[None]:
    """Holds a lock among all Stints of this cache. The kernel frees it when its holder dies."""
    holder = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        said = False
        while not try_lock(holder):
            if not said:
                say("another Stint is fetching it; waiting for that")
            said = True
            await asyncio.sleep(0.2)
        yield
    finally:
        os.close(holder)


async def _fetch(cache: Path, root: Path, say: Say) -> None:
    """Downloads and unpacks into a directory aside, and renames it when it is whole."""
    work = cache / ".rabbitmq-unfinished"  # ours alone: we hold the lock
    shutil.rmtree(work, ignore_errors=True)  # of a Stint that was killed
    work.mkdir()
    try:
        say(f"not installed here: fetching Debian's packages into {cache} (35 MB, once)")
        await _download(work, say)
        say("unpacking")
        for package in sorted(os.listdir(work / "archives")):
            if package.endswith(".deb"):
                await run(["dpkg-deb", "-x", work / "archives" / package, work / "root"])
        (work / "root").rename(root)
    except CommandError as error:
        raise CommandError(f"RabbitMQ is not installed here and could not be fetched: {error}\n{_OTHERWISE}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


async def _download(work: Path, say: Say) -> None:
    """Lets apt download with lists and caches of its own, which needs no root and leaves the system's as they are."""
    for part in ("lists/partial", "archives/partial", "log", "root"):
        (work / part).mkdir(parents=True)
    with contextlib.suppress(OSError):
        shutil.copy("/var/lib/dpkg/status", work / "status")
    (work / "status").touch()
    options = [
        f"Dir::State::Lists={work}/lists",
        f"Dir::State::status={work}/status",
        f"Dir::Cache={work}",
        f"Dir::Cache::archives={work}/archives",
        f"Dir::Log={work}/log",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=",
        "Acquire::Retries=3",
        "Acquire::Languages=none",
    ]
    apt = ["apt-get", "-q", *(part for option in options for part in ("-o", option))]
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = PLAIN_ENVIRONMENT | proxies
    say("reading the package lists")
    await run([*apt, "update"], environment=environment, directory=work / "archives")
    say(f"downloading {len(_PACKAGES)} packages")
    await run([*apt, "download", *_PACKAGES], environment=environment, directory=work / "archives")
