"""The image, built twice by buildah on a Debian that debootstrap makes, and what is in it. It takes ten
minutes, root, buildah and debootstrap (`apt-get install buildah debootstrap`), of which the build itself is the most:

    STINT_TEST_FULL=1 ./stint test --all -n 0 tests/deploy/test_built_image.py
"""

import json
import re
import subprocess
import tomllib

from packaging.markers import Marker

from tests.deploy.images import NEEDS_IMAGE, Builder
from tests.deploy.test_image import DOCKERFILE
from tests.support.installation import CHECKOUT

pytestmark = NEEDS_IMAGE


def test_two_builds_are_equal(builder: Builder) -> None:
    builder.build("two")
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
