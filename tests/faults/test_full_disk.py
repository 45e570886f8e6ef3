"""Postgres with a full disk: requests are refused clearly, nothing is lost or half done, and it recovers with free space."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.readiness import DISK_FULL
from ops.up.postgres import Postgres
from schemas.postgres.migrate import migrate
from tests.faults.drill.disk import fill
from tests.faults.test_servers_down import insist_on_stops
from tests.support.given import Given
from tests.support.installation import Installation, eventually, new_database, with_database

DISK_MEGABYTES = 256


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=711", "tmpfs", str(mounted)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"only root may mount the small file system that this fills: {done.stderr.strip()}")
    tmp_path.chmod(0o711)
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.fixture
def postgres(disk: Path) -> Iterator[Postgres]:
    server = Postgres(disk, durable=False)
    try:
        asyncio.run(server.prepare())
        server.start()
        with psycopg.connect(server.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE stint_template")
        asyncio.run(migrate(with_database(server.database_url, "stint_template")))
        yield server
    finally:
        server.stop()


@pytest.fixture
def stint(postgres: Postgres, amqp_url_apart: str, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(new_database(postgres.database_url), amqp_url_apart, tmp_path)
    try:
        yield installation.start("api", "relay", "work").wait_until_ready()
    finally:
        installation.stop()


@pytest.mark.slow
def test_a_full_disk_refuses_clearly_and_loses_nothing(
    stint: Installation, postgres: Postgres, disk: Path, given: Given
) -> None:
    admin = given.admin()
    task, people = given.task(admin), given.people(2)
    answered = {stop["entryId"] for person in people for stop in insist_on_stops(person, task, 3)}
    ballast = fill(disk)

    made = []
    for _ in range(400):
        body = {"title": "Fill it", "customerId": task["customerId"], "description": secrets.token_hex(4_000)}
        answer = admin.http.post("/api/tasks", json=body)
        if answer.status_code != 201:
            break
        made.append(answer.json()["id"])
    assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
    assert "The database accepts no changes at the moment." in answer.json()["detail"]
    assert "disk" not in answer.text.lower() and "postgres" not in answer.text.lower()
    if postgres.is_running():
        ready = admin.http.get("/health/ready")
        assert ready.status_code == 503 and ready.json()["problems"] == [DISK_FULL]
        measured = admin.http.get("/metrics").text
        assert "stint_postgres_writable 0" in measured and "stint_postgres_disk_full 1" in measured
        [finding] = json.loads(stint.command("doctor", "--json").stdout)
        # `./stint up` starts Postgres with a descriptor of its directory, which says nothing to a person
        assert finding["what"] == "Postgres has a full disk: no space is left."

    ballast.unlink()
    if not postgres.is_running():  # without space for its log it ends, and its supervisor starts it again
        postgres.start()
    eventually(lambda: stint.answers("/health/ready"), seconds=20, why=stint.log("api")[-1000:])
    answered |= {stop["entryId"] for person in people for stop in insist_on_stops(person, task, 3)}
    eventually(lambda: stint.value("SELECT count(*) = 0 FROM messages WHERE state <> 'done'"), seconds=60)
    assert answered == {row[0] for row in stint.rows("SELECT id::text FROM time_entries")}
    assert set(made) <= {row[0] for row in stint.rows("SELECT id::text FROM tasks")}
    assert stint.value("SELECT count(*) FROM message_attempts") == 0
    assert all(stint.is_running(name) for name in ("api", "relay", "work"))
    stint.verify()
