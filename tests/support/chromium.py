"""Chromium for tests in a browser: Debian's packages, unpacked into the user's cache, with the fonts of the pictures; else the
one that is installed. `python -m tests.support.chromium` downloads it and prints progress."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import CommandError
from ops.up.packages.debian import Packages, Say, cached, can_download, unpacked
from tests.support import servers

PACKAGES = Packages(
    "chromium",
    ("chromium-headless-shell", "fonts-inter", "fonts-dejavu-core"),
    megabytes=95,
    with_dependencies=True,
)
_INSTALLED = ("chromium-headless-shell", "chromium", "chromium-browser")


@dataclass(frozen=True)
class Chromium:
    """A program that Playwright can start, and its environment."""

    program: Path
    environment: Mapping[str, str]


def find() -> Chromium | None:
    """The one in the cache, else the one that is installed, else None."""
    if found := _below(cached(PACKAGES, servers.KEPT)):
        return found
    installed = next(filter(None, map(shutil.which, _INSTALLED)), None)
    return Chromium(Path(installed), os.environ) if installed else None


def find_or_download(say: Say = lambda _: None) -> Chromium:
    """Like `find`, but downloads it when there is none. Raises CommandError with one line when that is not possible here."""
    if found := find():
        return found
    if not can_download():
        raise CommandError("no Chromium is installed here, and without apt it cannot be downloaded")
    try:
        root = asyncio.run(unpacked(PACKAGES, servers.KEPT, say))
    except CommandError as error:
        [*_, reason] = str(error).strip().splitlines()
        raise CommandError(f"no Chromium is installed here, and Debian's could not be downloaded: {reason}") from error
    if found := _below(root):
        return found
    raise CommandError("Debian's packages contain no Chromium that the tests can use")


def _below(root: Path) -> Chromium | None:
    program = root / "usr/lib/chromium/chromium-headless-shell"
    if not program.exists():
        return None
    folders = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/pulseaudio")
    libraries = [str(found) for folder in folders for found in root.glob(folder)]
    fonts = {"FONTCONFIG_FILE": str(Path(__file__).with_name("fonts.conf")), "XDG_DATA_HOME": str(root / "usr/share")}
    return Chromium(program, os.environ | fonts | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})


if __name__ == "__main__":
    try:
        find_or_download(lambda line: print(f"Chromium: {line}", file=sys.stderr, flush=True))
    except CommandError as error:
        sys.exit(f"Chromium: {error}")
