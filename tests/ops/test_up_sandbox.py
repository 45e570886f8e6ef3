"""`./stint up --sandbox` as a newcomer meets it: a bill is approved, and its entry arrives, in no Xero."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ops.state import CHECKOUT
from tests.installation import eventually
from tests.up import Up, command, runs

DOCS = (CHECKOUT / "docs" / "sandbox.md").read_text()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that is shared: whoever ends it starts it again."""
    up = Up(tmp_path_factory.mktemp("up") / "with space", "--sandbox")
    try:
        yield up.start(XERO_CLIENT_ID="somebody's real app", XERO_API_URL="http://127.0.0.1:9")
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def sandbox(up: Up) -> str:
    return f"http://127.0.0.1:{up.port + 1}"


def slack(up: Up) -> str:
    return f"http://127.0.0.1:{up.port + 2}"


def entries(up: Up) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{sandbox(up)}/sandbox/entries").json()
    return found


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def stint_says(up: Up, path: str) -> dict[str, Any]:
    token = command("token", "--role", "internal_admin", "--email", "admin@example.com", "--state", str(up.state)).stdout
    answer = httpx.get(f"{up.url}{path}", headers={"Authorization": f"Bearer {token.strip()}"}, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pasted(up: Up, section: str) -> str:
    """What a terminal shows when the commands of that section are pasted into it."""
    text = DOCS.partition(f"## {section}\n")[2].partition("\n## ")[0]
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    commands = commands.replace(":8000", f":{up.port}").replace(":8001", f":{up.port + 1}")
    commands = commands.replace("./stint token", f'"{CHECKOUT}/stint" token --state "{up.state}"')
    shown = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_it_is_said_that_this_is_a_sandbox_and_where_to_look(up: Up) -> None:
    assert "with a sandbox" in up.said() and "nothing goes to Xero" in up.said()
    assert sandbox(up) in up.said()
    assert "This is a sandbox, not Xero" in httpx.get(sandbox(up)).text
    status = stint_says(up, "/api/xero/status")
    assert (status["connected"], status["needsReconnect"]) == (True, False)
    assert status["tenantName"] == "Sandbox Ltd (not a real Xero)"


@pytest.fixture(scope="module")
def arrived(up: Up) -> dict[str, Any]:
    """The entry of the bill that the commands of the docs bring on its way."""
    assert "Support and maintenance" in pasted(up, "From a bill to an entry")
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
    page = httpx.get(sandbox(up)).text
    assert "Moved all mailboxes" in page and "Ada Admin" in page


@pytest.mark.usefixtures("arrived")  # before Stint is disconnected
def test_the_commands_for_a_bad_mood_are_taken(up: Up) -> None:
    pasted(up, "As Xero in a bad mood")
    answer = httpx.get(f"{sandbox(up)}/connections", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401
    assert [call["fault"] for call in httpx.get(f"{sandbox(up)}/sandbox/calls").json()][-1] is None


def test_a_stand_in_that_dies_comes_back_with_what_it_knew(up: Up, arrived: dict[str, Any]) -> None:
    pids = up.run_json()["pids"]["sandbox"]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(up.run_json()["pids"]["sandbox"]) - set(pids)) == 2)
    for name in ("xero", "slack"):
        eventually(lambda name=name: f"sandbox {name} killed by SIGKILL; starting it again" in up.said())  # type: ignore[misc]
    eventually(lambda: is_up(f"{sandbox(up)}/health") and is_up(f"{slack(up)}/health"))
    assert entries(up) == [arrived]


@pytest.mark.slow
def test_the_next_start_finds_it_all_again_and_connects_anew(up: Up, arrived: dict[str, Any]) -> None:
    pids = up.run_json()["pids"]["sandbox"]
    assert up.end(signal.SIGTERM) < 12
    assert not any(map(runs, pids))
    up.start()
    assert entries(up) == [arrived]
    assert stint_says(up, "/api/xero/status")["connected"]


def test_slack_is_a_page_to_type_commands_into(up: Up) -> None:
    assert slack(up) in up.said()
    typed = httpx.get(slack(up))
    assert typed.is_success and "/task" in typed.text
    assert stint_says(up, "/api/me")["email"] == "admin@example.com"


def test_a_sandboxes_state_is_used_with_nothing_else(up: Up, tmp_path: Path) -> None:
    shutil.copytree(up.state / "sandbox", tmp_path / "played" / "sandbox")
    without = command("up", "--port", str(up.port + 3), "--state", str(tmp_path / "played"))
    assert without.returncode == 1
    assert "was used with a sandbox" in without.stderr and "--sandbox" in without.stderr


def test_a_state_that_is_connected_to_xero_is_no_place_for_a_sandbox(up: Up, tmp_path: Path) -> None:
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


def test_a_taken_port_next_door_is_said(up: Up, tmp_path: Path) -> None:
    second = command("up", "--sandbox", "--port", str(up.port - 1), "--state", str(tmp_path / "second"))
    assert second.returncode == 1
    assert f"Port {up.port}, for the sandbox, cannot be used" in second.stderr and "--port" in second.stderr
