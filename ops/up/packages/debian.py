"""Debian's packages, downloaded and unpacked into a private cache: without root, and without a change of the system."""

import asyncio
import contextlib
import os
import platform
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import CommandError
from ops.files import try_lock
from ops.progress import reported
from ops.up.processes import PLAIN_ENVIRONMENT, run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Packages:
    """What is unpacked together into one directory of the cache, and about how large the download is."""

    name: str  # of the directory
    names: Sequence[str]
    megabytes: int
    with_dependencies: bool = False  # also the packages that they need and the system lacks


def can_download() -> bool:
    """Whether this system has the programs for it."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def cached(packages: Packages, home: Path) -> Path:
    """Where the packages are, or will be, unpacked. Raises CommandError where nothing can be written."""
    return _cache_directory(home) / f"{packages.name}-{_system_name()}"


async def unpacked(packages: Packages, home: Path, say: Say) -> Path:
    """The directory with the unpacked packages, which are downloaded when it is missing. The cache is below `home` if the
    user's cache directory cannot be written. Raises CommandError when the download fails."""
    root = cached(packages, home)
    if not root.exists():
        async with _lock(root.parent / f"{packages.name}.lock", say):
            if not root.exists():
                await _fetch(packages, root, say)
    return root


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


async def _fetch(packages: Packages, root: Path, say: Say) -> None:
    """Downloads and unpacks into another directory, and renames it when it is complete."""
    work = root.parent / f".{packages.name}-unfinished"  # only this process uses it: it has the lock
    shutil.rmtree(work, ignore_errors=True)  # left by a Stint that was killed
    work.mkdir()
    try:
        say(f"not installed here: downloading Debian's packages into {root.parent} ({packages.megabytes} MB, once)")
        await _download(packages, work, say)
        archives = sorted((work / "archives").glob("*.deb"))
        done: list[Path] = []
        async with reported(say, "unpacking", lambda: f"{len(done)} of {len(archives)} packages"):
            for archive in archives:
                await run(["dpkg-deb", "-x", archive, work / "root"])
                done.append(archive)
        (work / "root").rename(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


async def _download(packages: Packages, work: Path, say: Say) -> None:
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
        "APT::Install-Recommends=false",
        "Acquire::Retries=3",
        "Acquire::Languages=none",
    ]
    apt = ["apt-get", "-q", *(part for option in options for part in ("-o", option))]
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = PLAIN_ENVIRONMENT | proxies
    archives = work / "archives"
    download = [*apt, "install", "--download-only", "--reinstall", "-y"] if packages.with_dependencies else [*apt, "download"]
    async with reported(say, "reading the package lists"):
        await run([*apt, "update"], environment=environment, directory=archives)
    async with reported(say, "downloading", lambda: f"{_megabytes(archives)} of {packages.megabytes} MB"):
        await run([*download, *packages.names], environment=environment, directory=archives)


def _megabytes(directory: Path) -> int:
    size = 0
    for file in directory.rglob("*"):
        with contextlib.suppress(OSError):  # apt has just renamed it
            size += file.stat().st_size
    return size // 1_000_000
