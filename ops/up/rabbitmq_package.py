"""Where RabbitMQ comes from: the installed one, or Debian's packages, unpacked into a private cache without root."""

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
from ops.progress import reported
from ops.up.processes import PLAIN_ENVIRONMENT, run

Say = Callable[[str], None]

_OLDEST = (3, 10)  # the first version whose quorum queues have what the relay needs
_PACKAGES = (
    "rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia "
    "erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl "
    "erlang-syntax-tools erlang-tftp erlang-tools erlang-xmerl"
).split()
_DOWNLOAD_MEGABYTES = 35
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


async def find_or_fetch(home: Path, say: Say, *, system: Path = Path("/")) -> Installation:
    """The system's RabbitMQ if it is new enough, otherwise the cached one, which is downloaded when it is missing. The cache is
    below `home` if the user's cache directory cannot be written."""
    if found := _installation_below(system):
        return found
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CommandError(f"No RabbitMQ is installed here, and without apt it cannot be downloaded. {_OTHERWISE}")
    cache = _cache_directory(home)
    root = cache / f"rabbitmq-{_system_name()}"
    if not root.exists():
        async with _lock(cache / "rabbitmq.lock", say):
            if not root.exists():
                await _fetch(cache, root, say)
    if found := _installation_below(root):
        return found
    raise CommandError(f"Debian's packages contain no RabbitMQ that Stint can use. {_OTHERWISE}")


def show_needed_plugins(plugins: Path, shown: Path) -> None:
    """Fills `shown` with links to the plugins that the application `rabbit` needs. A start spends most of its time with looking
    up modules in every plugin it finds: with only these it takes half as long."""
    needed: set[str] = set()
    to_visit = ["rabbit"]
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
    """Identifies a release and architecture: their packages do not work on others."""
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'unknown')}-{platform.machine()}"


@contextlib.asynccontextmanager
async def _lock(file: Path, say: Say) -> AsyncIterator[None]:
    """Locks this cache against all other Stints. The kernel releases the lock when the process ends."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not try_lock(descriptor):
            async with reported(say, "waiting for another Stint that downloads it"):
                while not try_lock(descriptor):  # noqa: ASYNC110 - the kernel has no event for it
                    await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


async def _fetch(cache: Path, root: Path, say: Say) -> None:
    """Downloads and unpacks into another directory, and renames it when it is complete."""
    work = cache / ".rabbitmq-unfinished"  # only this process uses it: it has the lock
    shutil.rmtree(work, ignore_errors=True)  # left by a Stint that was killed
    work.mkdir()
    try:
        say(f"not installed here: downloading Debian's packages into {cache} ({_DOWNLOAD_MEGABYTES} MB, once)")
        await _download(work, say)
        packages = sorted((work / "archives").glob("*.deb"))
        unpacked: list[Path] = []
        async with reported(say, "unpacking", lambda: f"{len(unpacked)} of {len(packages)} packages"):
            for package in packages:
                await run(["dpkg-deb", "-x", package, work / "root"])
                unpacked.append(package)
        (work / "root").rename(root)
    except CommandError as error:
        raise CommandError(f"RabbitMQ is not installed here and could not be downloaded: {error}\n{_OTHERWISE}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


async def _download(work: Path, say: Say) -> None:
    """Downloads with apt, with package lists and caches in `work`: this needs no root and does not change the system's."""
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
    archives = work / "archives"
    async with reported(say, "reading the package lists"):
        await run([*apt, "update"], environment=environment, directory=archives)
    async with reported(say, "downloading", lambda: f"{_megabytes(archives)} of {_DOWNLOAD_MEGABYTES} MB"):
        await run([*apt, "download", *_PACKAGES], environment=environment, directory=archives)


def _megabytes(directory: Path) -> int:
    size = 0
    for file in directory.rglob("*"):
        with contextlib.suppress(OSError):  # apt has just renamed it
            size += file.stat().st_size
    return size // 1_000_000
