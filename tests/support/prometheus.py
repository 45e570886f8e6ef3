"""Prometheus and promtool, from Debian's package, unpacked into the user's cache without root, or the installed ones."""

import asyncio
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import CommandError
from ops.up.packages.debian import Packages, cached, can_download, unpacked
from ops.up.processes import PLAIN_ENVIRONMENT, end, spawn
from tests.support import servers
from tests.support.installation import CHECKOUT, eventually, free_port

RULES = CHECKOUT / "ops/alerts/stint.rules.yaml"
SCRAPE_SECONDS = 10  # as docs/operations.md says
_PACKAGES = Packages("prometheus", ("prometheus",), megabytes=25)


def program(name: str) -> Path:
    """The path of `prometheus` or `promtool`. Raises CommandError where there is none and none can be had."""
    if (found := cached(_PACKAGES, servers.KEPT) / "usr/bin" / name).exists():
        return found
    if installed := shutil.which(name):
        return Path(installed)
    if not can_download():
        raise CommandError(f"no {name} is installed here, and without apt it cannot be downloaded")
    try:
        asyncio.run(unpacked(_PACKAGES, servers.KEPT, lambda _: None))
    except CommandError as error:
        raise CommandError(f"no {name} is installed here, and Debian's could not be downloaded: {error}") from error
    return found


class Prometheus:
    """A Prometheus with the rules of ops/alerts that scrapes one API every SCRAPE_SECONDS."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def firing(self) -> list[str]:
        """The names of the alerts that fire, each once."""
        with urllib.request.urlopen(f"{self._url}/alerts", timeout=10) as answer:  # noqa: S310 - our own
            alerts = json.load(answer)["data"]["alerts"]
        return sorted({alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"})

    def answers(self) -> bool:
        try:
            return self.firing() is not None
        except OSError:
            return False


@contextmanager
def prometheus(home: Path, target: str) -> Iterator[Prometheus]:
    """Runs one with its data below `home`; `target` is `host:port` of the API."""
    home.mkdir()
    found = program("prometheus")
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "stint", "static_configs": [{"targets": [target]}]}],
    }
    (home / "prometheus.yaml").write_text(json.dumps(configuration))
    port = free_port()
    command: list[str | Path] = [
        found, f"--config.file={home}/prometheus.yaml", f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    process: subprocess.Popen[bytes] = spawn(command, log=home / "prometheus.log", environment=PLAIN_ENVIRONMENT)
    try:
        running = Prometheus(port)
        eventually(running.answers, seconds=60, why=f"Prometheus answers: {home}/prometheus.log")
        yield running
    finally:
        end(process)
