"""`./stint up --sandbox`: a bill is approved and its entry arrives in the stand-in, not in Xero."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from ops.state import CHECKOUT
from tests.support.installation import eventually, new_database_without_key
from tests.support.pages import assert_prints, blocks, paste, steps
from tests.support.up import ONE_API, Up, command, runs

pytestmark = pytest.mark.processes

DOCS = (CHECKOUT / "docs" / "sandbox.md").read_text()


@pytest.fixture(scope="module")
def up(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Shared by the module: a test that ends it starts it again. It uses the servers of the tests."""
    up = Up(tmp_path_factory.mktemp("up") / "with space", "--sandbox", *ONE_API)
    try:
        yield up.start(
            DATABASE_URL=new_database_without_key(database_url),
            AMQP_URL=amqp_url_apart,
            XERO_CLIENT_ID="somebody's real app",
            XERO_API_URL="http://127.0.0.1:9",
        )
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def sandbox(up: Up) -> str:
    return f"http://127.0.0.1:{up.port + 1}"


def slack(up: Up) -> str:
    return f"http://127.0.0.1:{up.port + 2}"


def entries(up: Up) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx2.get(f"{sandbox(up)}/sandbox/entries").json()
    return found


def is_up(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.HTTPError:
        return False


def stint_says(up: Up, path: str) -> dict[str, Any]:
    token = command("token", "--role", "internal_admin", "--email", "admin@example.com", "--state", str(up.state)).stdout
    answer = httpx2.get(f"{up.url}{path}", headers={"Authorization": f"Bearer {token.strip()}"}, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def paste_section(up: Up, section: str, directory: Path) -> None:
    """Pastes the commands of that section of the docs, and compares what they print."""
    page = directory / "sandbox.md"
    page.write_text(DOCS.partition(f"## {section}\n")[2].partition("\n## ")[0])
    pasted = steps(blocks(page))
    page.unlink()
    for step, output in zip(pasted, paste(pasted, up, directory), strict=True):
        assert_prints(step, output)


def test_up_prints_that_it_has_a_sandbox_and_its_address(up: Up) -> None:
    assert "with a sandbox" in up.said() and "nothing is sent to Xero" in up.said()
    assert sandbox(up) in up.said()
    assert "This is a sandbox, not Xero" in httpx2.get(sandbox(up)).text
    status = stint_says(up, "/api/xero/status")
    assert (status["connected"], status["needsReconnect"]) == (True, False)
    assert status["tenantName"] == "Sandbox Ltd (not a real Xero)"


@pytest.fixture(scope="module")
def arrived(up: Up, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The entry of the bill that the commands of the docs create and approve."""
    paste_section(up, "From a bill to an entry", tmp_path_factory.mktemp("checkout"))
    [entry] = eventually(lambda: entries(up))
    found: dict[str, Any] = entry
    return found


def test_the_commands_of_the_docs_bring_a_bill_to_the_sandbox(up: Up, arrived: dict[str, Any]) -> None:
    bill_id = re.search(r"\[bill:(.*)\]", arrived["description"])
    assert bill_id
    path = f"/api/time-bills/{bill_id[1]}"
    eventually(lambda: stint_says(up, path)["xero"]["status"] == "synced")
    bill = stint_says(up, path)
    assert bill["xero"]["timeEntryId"] == arrived["timeEntryId"]
    assert (bill["minutes"], bill["memo"]) == (arrived["duration"], "Moved all mailboxes") == (90, "Moved all mailboxes")
    assert arrived["description"].startswith("Moved all mailboxes")
    page = httpx2.get(sandbox(up)).text
    assert "Moved all mailboxes" in page and "Ada Admin" in page


@pytest.mark.usefixtures("arrived")  # before Stint is disconnected
def test_the_commands_for_failures_are_accepted(up: Up, tmp_path: Path) -> None:
    paste_section(up, "Failures of Xero", tmp_path)
    answer = httpx2.get(f"{sandbox(up)}/connections", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401
    assert [call["fault"] for call in httpx2.get(f"{sandbox(up)}/sandbox/calls").json()][-1] is None


def test_a_stand_in_that_dies_comes_back_with_what_it_knew(up: Up, arrived: dict[str, Any]) -> None:
    pids = up.run_json()["pids"]["sandbox"]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(up.run_json()["pids"]["sandbox"]) - set(pids)) == 2)
    for name in ("xero", "slack"):
        eventually(lambda name=name: f"sandbox {name} killed by SIGKILL; starting it again" in up.said())
    eventually(lambda: is_up(f"{sandbox(up)}/health") and is_up(f"{slack(up)}/health"))
    assert entries(up) == [arrived]


@pytest.mark.slow
def test_the_next_start_finds_it_all_again_and_connects_again(up: Up, arrived: dict[str, Any]) -> None:
    pids = up.run_json()["pids"]["sandbox"]
    assert up.end(signal.SIGTERM) < 12
    assert not any(map(runs, pids))
    up.start()
    assert entries(up) == [arrived]
    assert stint_says(up, "/api/xero/status")["connected"]


def test_slack_is_a_page_to_type_commands_into(up: Up) -> None:
    assert slack(up) in up.said()
    typed = httpx2.get(slack(up))
    assert typed.is_success and "/task" in typed.text
    assert stint_says(up, "/api/me")["email"] == "admin@example.com"


def test_a_state_that_was_used_with_a_sandbox_is_refused_without_one(up: Up, tmp_path: Path) -> None:
    shutil.copytree(up.state / "sandbox", tmp_path / "played" / "sandbox")
    without = command("up", "--port", str(up.port + 3), "--state", str(tmp_path / "played"))
    assert without.returncode == 1
    assert "was used with a sandbox" in without.stderr and "--sandbox" in without.stderr


def test_a_state_that_is_connected_to_xero_is_refused_for_a_sandbox(up: Up, tmp_path: Path) -> None:
    run = up.run_json()
    with psycopg.connect(run["database_url"], autocommit=True) as conn:
        was = conn.execute("SELECT tenant_id, tenant_name FROM xero_connection").fetchone()
        assert was
        conn.execute("UPDATE xero_connection SET tenant_id = 'real', tenant_name = 'Firm Ltd'")
        try:
            refused = command(
                "up", "--sandbox", "--port", str(up.port + 3), "--state", str(tmp_path / "second"),
                DATABASE_URL=run["database_url"], AMQP_URL=run["amqp_url"],
                SECRET_KEY=(up.state / "secret_key").read_text().strip(),
            )  # fmt: skip
        finally:
            conn.execute("UPDATE xero_connection SET tenant_id = %s, tenant_name = %s", was)
    assert refused.returncode == 1
    assert "connected to Firm Ltd" in refused.stderr and "--state" in refused.stderr
    assert not (tmp_path / "second" / "sandbox").exists()


def test_a_used_port_of_the_sandbox_is_reported(up: Up, tmp_path: Path) -> None:
    second = command("up", "--sandbox", "--port", str(up.port - 1), "--state", str(tmp_path / "second"))
    assert second.returncode == 1
    assert f"Port {up.port}, for the sandbox, cannot be used" in second.stderr and "--port" in second.stderr
