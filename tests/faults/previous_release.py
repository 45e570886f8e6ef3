"""The code of the previous release, as its processes ran: for tests of an upgrade.

Version 0.2.0 has no tag. This is the earliest commit of it in this repository that later versions can upgrade; its database has
24 migrations. At a release, name the commit of the release before (CONTRIBUTING.md, "Release").
"""

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT, Installation

COMMIT = "ca7cec00dddbe70ea9fa481ee5d9091503845bf1"
MIGRATIONS = 24  # of its database
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stint"


class PreviousRelease(Installation):
    """Processes of the previous release, beside those of this version over the same database."""

    def _start_process(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        code = checkout()
        environment = os.environ | self.environment | {"PYTHONPATH": f"{code}:{code / 'packages'}"}
        with log.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", *command], cwd=code, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )


@cache
def checkout() -> Path:
    """The directory of its code, with the packages that it needs and this version does not. Skips the test if the clone lacks
    the commit, or the packages cannot be installed."""
    place = _CACHE / f"release-{COMMIT[:12]}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            made = place.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            _unpack(made)
            _install(made)
            made.rename(place)
    return place


def _unpack(place: Path) -> None:
    archive = subprocess.run(
        ["git", "archive", COMMIT, "actors", "api", "schemas", "requirements.lock"], cwd=CHECKOUT, capture_output=True
    )
    if archive.returncode != 0:
        pytest.skip(f"the code of the previous release is not in this clone (git fetch --unshallow): {archive.stderr!r}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(place, filter="data")


def _install(place: Path) -> None:
    """Installs what its lock names and this version's environment has no version of."""
    present = {re.sub("[-_.]+", "-", found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    pins = re.findall(r"^([a-z0-9-]+)==.*(?:\n    --hash.*)+", (place / "requirements.lock").read_text(), re.MULTILINE)
    blocks = re.split(r"\n(?=[a-z0-9])", (place / "requirements.lock").read_text())
    lacking = [block for name, block in zip(pins, blocks, strict=True) if name not in present]
    (place / "lacking.lock").write_text("\n".join(lacking))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-input"]
    ran = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", place / "packages", "-r", place / "lacking.lock"],
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        pytest.skip(f"packages of the previous release cannot be installed: {ran.stderr[-300:]}")
