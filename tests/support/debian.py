"""Programs of Debian's packages for tests: the installed ones, or unpacked into Stint's cache without root."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.up.packages.debian import Packages, can_download, unpacked
from ops.up.processes import PLAIN_ENVIRONMENT


def system_program(packages: Packages) -> tuple[str, dict[str, str]]:
    """The path of the program in /usr/sbin or /usr/bin that has the name of the packages, and the environment that it needs.
    Skips the test where there is none and none can be had."""
    if installed := shutil.which(packages.name, path="/usr/sbin:/usr/bin"):
        return installed, PLAIN_ENVIRONMENT
    try:
        if not can_download():
            raise CommandError("this system has no apt")
        root = asyncio.run(unpacked(packages, Path(tempfile.gettempdir()), lambda _: None))
    except CommandError as error:
        pytest.skip(f"{packages.name} is not installed and cannot be downloaded: {error}")
    program = next(root.glob(f"usr/*bin/{packages.name}"))
    return str(program), PLAIN_ENVIRONMENT | {"LD_LIBRARY_PATH": ":".join(map(str, root.glob("usr/lib/*-linux-gnu")))}
