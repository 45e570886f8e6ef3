"""docs/operations.md, To any moment: ./stint up. Its blocks, carried out in a checkout of their own."""

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psycopg
import pytest

from ops.state import CHECKOUT
from tests.support.up import ONE_API, Up, command, end_all, until

SECTION = (CHECKOUT / "docs/operations.md").read_text().partition("### To any moment: ./stint up")[2].partition("\n## ")[0]
SHELL, RECEIVE, DAILY, TO_A_MOMENT = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A directory whose path is short enough for a socket, with the environment and the commands of the checkout."""
    home = Path(tempfile.mkdtemp(prefix="stint-", dir="/tmp"))
    (home / ".venv").symlink_to(CHECKOUT / ".venv")
    (home / "stint").write_text(f'#!/bin/sh\nexec {CHECKOUT}/stint "$@" --state {home}/.stint\n')
    (home / "stint").chmod(0o755)
    yield home
    shutil.rmtree(home)


@pytest.fixture
def up(checkout: Path, amqp_url_apart: str) -> Iterator[Up]:
    """With a Postgres of its own, and the RabbitMQ of the tests."""
    up = Up(checkout / ".stint", *ONE_API)
    up.environment["AMQP_URL"] = amqp_url_apart
    yield up
    if up.runs():
        up.end(signal.SIGTERM)


def paste(checkout: Path, lines: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-euc", f"{SHELL}\n{lines}"], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def names(client: httpx2.Client) -> set[str]:
    return {customer["name"] for customer in client.get("/api/customers").raise_for_status().json()["items"]}


def add(client: httpx2.Client, name: str) -> None:
    client.post("/api/customers", json={"name": name}).raise_for_status()


def now(up: Up) -> datetime:
    with psycopg.connect(up.run_json()["database_url"]) as conn:
        [found] = conn.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert isinstance(found, datetime)
    return found


@pytest.mark.timeout(300)
def test_up_is_restored_to_a_moment_between_two_facts_as_the_page_says(up: Up, checkout: Path) -> None:
    up.start()
    words = ("token", "--role", "internal_admin", "--email", "admin@example.com", "--state", str(up.state))
    token = command(*words).stdout.strip()
    with httpx2.Client(base_url=up.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        receiving = subprocess.Popen(
            ["/bin/sh", "-euc", f"{SHELL}\n{RECEIVE.strip().replace('pg_receivewal --slot', 'exec pg_receivewal --slot')}"],
            cwd=checkout,
        )
        try:
            until(lambda: any((checkout / "backups/wal").glob("*.partial")), seconds=30)
            add(client, "Before the backup")
            paste(checkout, DAILY)
            add(client, "Before the moment")
            moment = now(up)
            time.sleep(0.01)
            add(client, "After the moment")
            [base] = (checkout / "backups").glob("base-*")
            paste(
                checkout,
                TO_A_MOMENT.replace("backups/base-2026-11-23", f"backups/{base.name}").replace(
                    "2026-11-23 17:30:00+00", moment.astimezone(UTC).isoformat()
                ),
            )
        finally:
            receiving.terminate()
            receiving.wait(10)
        up.process.wait(30)

        up.start()
        assert client.get("/api/customers").status_code == 401, "who has signed out since is not known"
        client.headers["Authorization"] = f"Bearer {command(*words).stdout.strip()}"
        assert names(client) == {"Before the backup", "Before the moment"}
        add(client, "After the restore")
        paste(checkout, RECEIVE.strip().splitlines()[1])  # the slot was not in the backup
        [told] = json.loads(command("doctor", "--json", "--state", str(up.state)).stdout)
        assert told["what"].startswith(f"Postgres was restored to {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC: "), told
    end_all(up, signal.SIGHUP)  # as when somebody closes the terminal
