"""The image, built by buildah on a Debian that debootstrap makes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT
from tests.support.sizes import FULL

SUITE = "bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
# pip in the build uses what pip outside uses
PIP = [Path("/etc/pip.conf"), Path("/etc/ssl/certs")]
MISSING = [*(name for name in ("buildah", "debootstrap") if shutil.which(name) is None), *(["root"] if os.getuid() else [])]

NEEDS_IMAGE = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not FULL, reason="STINT_TEST_FULL=1 builds the image, in ten minutes"),
    pytest.mark.skipif(bool(MISSING), reason=f"the image is not built without {', '.join(MISSING)}"),
]


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own."""

    directory: Path

    def buildah(self, *words: str | Path) -> str:
        """What it printed."""
        done = subprocess.run(self.command(*words), env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"buildah {words[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def command(self, *words: str | Path) -> list[str | Path]:
        storage: list[str | Path] = [
            "--root",
            self.directory / "storage",
            "--runroot",
            self.directory / "run",
            "--storage-driver",
            "overlay",
        ]
        return ["buildah", *storage, *words]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"TMPDIR": str(self.directory), "BUILDAH_ISOLATION": "chroot"}

    def build(self, name: str, *words: str | Path, file: str = "Dockerfile") -> None:
        """Nothing of an earlier build is used. All times are 0."""
        mounts = [word for path in PIP if path.exists() for word in ("--volume", f"{path}:{path}:ro")]
        same = ["--no-cache", "--timestamp", "0", "--build-arg", "BASE=localhost/base"]
        self.buildah("bud", *same, *mounts, "--tag", name, "--file", CHECKOUT / file, *words, CHECKOUT)

    @cached_property
    def container(self) -> str:
        return self.buildah("from", "localhost/one")

    def run(self, *words: str) -> str:
        """What a command printed in the image, as its account."""
        return self.buildah("run", self.container, "--", *words)


@contextmanager
def built() -> Iterator[Builder]:
    """With the image `one`."""
    with tempfile.TemporaryDirectory(prefix="stint-image-") as directory:
        made = Builder(Path(directory))
        root = made.directory / "base"
        debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        done = subprocess.run(debootstrap, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        (root / "usr/bin/python").symlink_to("python3")
        container = made.buildah("from", "scratch")
        try:
            made.buildah("add", container, root, "/")
            made.buildah("commit", "--timestamp", "0", "--rm", container, "base")
            made.build("one")
            yield made
        finally:
            made.buildah("rm", "--all")
            made.buildah("rmi", "--all", "--force")
