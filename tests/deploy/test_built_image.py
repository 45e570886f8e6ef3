"""The image, built twice by buildah on a Debian that debootstrap makes, and what is in it. It takes ten
minutes, root, buildah and debootstrap (`apt-get install buildah debootstrap`):

    STINT_TEST_FULL=1 ./stint test --all -n 0 tests/deploy/test_built_image.py
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from packaging.markers import Marker

from tests.deploy.test_image import DOCKERFILE
from tests.support.installation import CHECKOUT
from tests.support.sizes import FULL

SUITE = "bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
# pip in the build uses what pip outside uses
PIP = [Path("/etc/pip.conf"), Path("/etc/ssl/certs")]
MISSING = [*(name for name in ("buildah", "debootstrap") if shutil.which(name) is None), *(["root"] if os.getuid() else [])]

pytestmark = [
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


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    """With the images `one` and `two`, of the same files."""
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
            made.build("two")
            yield made
        finally:
            made.buildah("rm", "--all")
            made.buildah("rmi", "--all", "--force")


def test_two_builds_are_equal(builder: Builder) -> None:
    one, two = (json.loads(builder.buildah("inspect", "--type", "image", f"localhost/{name}")) for name in ("one", "two"))
    assert one["OCIv1"]["rootfs"]["diff_ids"] == two["OCIv1"]["rootfs"]["diff_ids"], different_files(builder)
    assert one["FromImageID"] == two["FromImageID"]


def different_files(builder: Builder) -> str:
    containers = [builder.buildah("from", f"localhost/{name}") for name in ("one", "two")]
    compared = ["diff", "--recursive", "--brief", "--no-dereference", *(builder.buildah("mount", name) for name in containers)]
    return subprocess.run(compared, capture_output=True, text=True).stdout[-3000:]


def test_its_account_can_change_nothing_and_owns_nothing(builder: Builder) -> None:
    assert builder.run("id", "--user") == "10001"
    assert builder.run("sh", "-c", "! touch /stint/x /opt/venv/x 2>&1").count("Permission denied") == 2
    assert builder.run("sh", "-c", "find / -xdev -user 10001 -not -path '/proc/*' 2>/dev/null || true") == "/mail"
    # compiled, since nothing can be written later
    assert builder.run("find", "/stint", "-name", "*.py", "-exec", "python", "-c", NOT_COMPILED, "{}", "+") == ""
    assert builder.run("python", "-m", "ops.cli", "--version").startswith("stint ")


NOT_COMPILED = """import importlib.util, os, sys
print(*(path for path in sys.argv[1:] if not os.path.exists(importlib.util.cache_from_source(path))))
"""


def test_its_bill_of_materials_has_each_package_of_the_lock_that_it_has(builder: Builder) -> None:
    place = builder.directory / "bill"
    words = ["--build-arg", "IMAGE=localhost/one", "--output", f"type=local,dest={place}"]
    builder.build("bill", *words, file="ops/deploy/sbom.Dockerfile")
    bill = json.loads((place / "stint.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "stint")
    assert (
        bill["metadata"]["component"]["version"]
        == tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    )
    listed = {component["name"].lower().replace("_", "-").replace(".", "-"): component for component in bill["components"]}
    [removed] = re.findall(r" uninstall --yes --quiet \\\n((?:.*\\\n)*.*\n)", DOCKERFILE)
    lock = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; ([^\\]*))?", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE)
    expected = {
        name: version for name, version, marker in lock if name not in removed.replace("\\", " ").split() and applies(marker)
    }
    assert {name: component["version"] for name, component in listed.items()} == expected
    assert all(component["purl"].startswith("pkg:pypi/") for component in bill["components"])


def applies(marker: str) -> bool:
    return not marker or Marker(marker.strip()).evaluate({"python_version": "3.11", "python_full_version": "3.11.2"})
