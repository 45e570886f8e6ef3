"""The peer of `./stint bench` does what Stint does, over the same tables: otherwise the comparison would be with something
else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ops.state import CHECKOUT
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually, free_port


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """The peer reads the signing keys once, and other tests change those of the shared Stint."""
    return stint_apart


@pytest.fixture
def peer(stint: Installation, given: Given, tmp_path: Path) -> Iterator[str]:
    """The URL of the peer over the database of the shared Stint."""
    given.person()  # the first token makes the signing key, which the peer reads when it starts
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-P", "-m", "uvicorn", "ops.bench.peer.app:app", "--port", str(port)]
    environment = os.environ | stint.environment | {"PYTHONPATH": str(CHECKOUT)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(url), seconds=60, why=(tmp_path / "log").read_text())
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def test_the_peer_makes_the_entries_and_bills_that_stint_makes(given: Given, peer: str) -> None:
    by, admin = given.person(), given.admin()
    task, other = given.task(admin), given.task(admin)
    with httpx2.Client(base_url=peer, headers={"Authorization": f"Bearer {by.token}"}, timeout=20) as http:
        through_peer = Person(by.id, by.email, by.token, http)
        assert set(through_peer.get("/api/me")) == set(by.get("/api/me"))

        # the timer that Stint shows is the one that the peer has started; a start on another task stops it
        started = through_peer.post(f"/api/tasks/{task['id']}/start")
        shown = by.get("/api/active-timers/me")
        assert shown.items() <= (started | {"updatedAt": shown["updatedAt"], "startTime": shown["startTime"]}).items()
        assert through_peer.post(f"/api/tasks/{task['id']}/start", status=200)["id"] == started["id"]
        given.stint.rows("UPDATE timers SET start_time = start_time - interval '90 s' WHERE user_id = %s RETURNING id", by.id)
        second = through_peer.post(f"/api/tasks/{other['id']}/start")
        assert second["stopped"]["entryId"] == started["id"]
        through_peer.post(f"/api/tasks/{other['id']}/stop", status=200)
        through_peer.post(f"/api/tasks/{other['id']}/stop", status=409)

        # answers have the fields of Stint's
        mine = by.post(f"/api/tasks/{task['id']}/start")
        stopped = by.post(f"/api/tasks/{task['id']}/stop", status=202)
        assert (set(started), set(second["stopped"])) == (set(mine), set(stopped))

        # and Stint reads what it made
        entry = by.get(f"/api/time-entries/{started['id']}")
        assert (entry["taskId"], entry["duration"]) == (task["id"], second["stopped"]["duration"]) and entry["duration"] >= 90
        given.settled()
        assert by.get(f"/api/time-bills/{entry['timeBillId']}")["seconds"] == _sum(by, entry["timeBillId"])

        # what any such product checks
        through_peer.post(f"/api/tasks/{by.id}/start", status=404)
        admin.put(f"/api/tasks/{task['id']}", {"status": "archived"})
        through_peer.post(f"/api/tasks/{task['id']}/start", status=409)
        assert http.get("/api/me", headers={"Authorization": f"Bearer {by.token[:-4]}AAAA"}).status_code == 401


def _sum(by: Person, bill_id: str) -> int:
    entries: list[dict[str, Any]] = by.get("/api/time-entries", timeBillId=bill_id)["items"]
    return sum(entry["duration"] for entry in entries)
