"""Prism validates the requests and responses between Stint and the stand-in Xero against Xero's own OpenAPI files.

The files are not part of this repository: STINT_SPECS names their directory, by default `shared/specs` next to the checkout.
Without them or without npm, the tests that need them are skipped, with the reason.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.installation import CHECKOUT, eventually, free_port

_PINNED = CHECKOUT / "tests" / "prism_cli"
_PROJECTS_BASE = "/projects.xro/2.0"


class Prism:
    """A Prism that forwards to `upstream`, with the paths of Xero."""

    def __init__(self, upstream: str, directory: Path) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "prism.log"
        self._document = directory / "xero.json"

    def start(self) -> "Prism":
        prism = _installed() / "node_modules" / ".bin" / "prism"
        self._document.write_text(json.dumps(_xero(_specs()), default=str))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [prism, "proxy", "--host", "127.0.0.1", "--port", str(self.port), self._document, self.upstream],
                env=os.environ | {"NO_COLOR": "1", "FORCE_COLOR": "0"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: "Prism is listening" in self.log(), seconds=60, why=f"Prism listens: {self._log}")
        return self

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @contextmanager
    def validates(self) -> Iterator[None]:
        """Fails at the end of the block if Prism reported a violation meanwhile, or received no request."""
        before = len(self.log())
        yield
        reported = self.log()[before:]
        assert "Request received" in reported, "nothing went through Prism"
        found = violations(reported)
        assert not found, "\n".join(found)


def violations(log: str) -> list[str]:
    """Requests and responses that do not match the files. A status that is not in the files, such as 404, is allowed."""
    found = [line for line in log.splitlines() if "Violation:" in line]
    return [line for line in found if "✖" in line or "route not found" in line]


@contextmanager
def prism_before(upstream: str, directory: Path) -> Iterator[Prism]:
    """Runs a Prism."""
    prism = Prism(upstream, directory).start()
    try:
        yield prism
    finally:
        prism.stop()


def _specs() -> Path:
    place = Path(os.environ.get("STINT_SPECS") or CHECKOUT.parent / "shared" / "specs")
    if not (place / "xero-projects.yaml").exists() or not (place / "xero-identity.yaml").exists():
        pytest.skip(f"Xero's OpenAPI files are not in {place}: name their directory in STINT_SPECS")
    return place


def _xero(specs: Path) -> dict[str, Any]:
    """Both files as one document, with the whole paths that clients request: Prism ignores the base paths in `servers`."""
    projects = yaml.load((specs / "xero-projects.yaml").read_text(), yaml.CSafeLoader)
    identity = yaml.load((specs / "xero-identity.yaml").read_text(), yaml.CSafeLoader)
    paths = {f"{_PROJECTS_BASE}{path}": item for path, item in projects["paths"].items()}
    # the file has /Connections; the documentation and all clients use /connections
    paths |= {path.replace("/Connections", "/connections"): item for path, item in identity["paths"].items()}
    schemas = projects["components"]["schemas"] | identity["components"]["schemas"]
    _settle_contradictions(schemas)
    return {**projects, "paths": paths, "servers": [], "components": projects["components"] | {"schemas": schemas}}


def _settle_contradictions(schemas: dict[str, Any]) -> None:
    """Corrects the schemas where they contradict the files' own descriptions and examples."""
    # "will be set to null if not provided during update"
    schemas["TimeEntry"]["properties"]["description"]["nullable"] = True
    # the example has no time zone, so it is no valid date-time
    for name in ("createdDateUtc", "updatedDateUtc"):
        del schemas["Connection"]["properties"][name]["format"]


def _installed() -> Path:
    """The pinned Prism in the user's cache directory; npm installs it at the first call."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so Prism cannot be: install Node.js 18 or newer")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stint"
    cache.mkdir(parents=True, exist_ok=True)
    lock_file = _PINNED / "package-lock.json"
    home = cache / f"prism-{hashlib.sha256(lock_file.read_bytes()).hexdigest()[:12]}"
    with (cache / "prism.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            unfinished = cache / ".prism-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(_PINNED, unfinished)
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=unfinished, check=True)
            unfinished.rename(home)
    return home
