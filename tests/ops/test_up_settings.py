"""Commands in another shell have the settings of the `./stint up` that runs, which only its own environment has."""

import json
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.installation import new_database_without_key
from tests.support.up import ONE_API, Up, command

pytestmark = pytest.mark.processes
ENVIRONMENT = {
    "XERO_CLIENT_ID": "an app",
    "XERO_CLIENT_SECRET": "its client secret",
    "SECRET_KEY": "a secret key of the environment",
    "PUBLIC_URL": "http://stint.invalid",  # the address of a proxy, which this machine does not reach
    "STINT_LONG_HOURS": "10",
}


def test_a_command_in_another_shell_judges_by_the_settings_of_the_running_up(
    tmp_path: Path, database_url: str, amqp_url_apart: str
) -> None:
    up = Up(tmp_path / "state", *ONE_API)
    up.start(DATABASE_URL=new_database_without_key(database_url), AMQP_URL=amqp_url_apart, **ENVIRONMENT)
    try:
        option = ("--state", str(up.state))

        def servers(**environment: str) -> dict[str, str]:
            answer: dict[str, Any] = json.loads(command("status", "--json", *option, **environment).stdout)
            return dict(answer["servers"])

        def asked(**environment: str) -> dict[str, Any] | None:
            answer: dict[str, Any] = json.loads(command("status", "--json", *option, **environment).stdout)
            found: dict[str, Any] | None = answer["asked"]
            return found

        def findings() -> list[dict[str, str]]:
            found: list[dict[str, str]] = json.loads(command("doctor", "--json", *option).stdout)
            return found

        assert servers()["Xero"] == "is not connected" and servers()["API"] == "ok"
        # the running `up` is asked, whatever settings another shell has
        elsewhere = {
            "AMQP_URL": "amqp://127.0.0.1:1/",
            "SMTP_URL": "smtp://127.0.0.1:1",
            "SLACK_BOT_TOKEN": "xoxb-of-another-app",
        }
        assert servers(**elsewhere) == servers()
        shown = command("status", *option, **elsewhere).stdout
        assert shown.startswith(f"As the Stint on {up.state} at {up.url} sees it:\nPostgres  ok\n")
        assert asked() == {"state": str(up.state), "url": up.url, "pid": up.process.pid}
        assert (up.state / "asked").stat().st_mode & 0o777 == 0o600
        assert [found["what"] for found in findings()] == ["Xero is not connected."]
        with psycopg.connect(up.run_json()["database_url"], autocommit=True) as conn:
            conn.execute(
                """
                UPDATE xero_connection SET tenant_id = 'org', tenant_name = 'The firm', connection_id = 'c', access_token = 'a',
                    refresh_token = 'r', expires_at = now(), connected_at = now(), needs_reconnect_at = now()
                """
            )
        assert servers()["Xero"] not in ("not set", "ok", "is not connected")
        # its tokens are not encrypted, so SECRET_KEY does not decrypt them
        assert [found["what"].partition(" ")[0] for found in findings()] == ["Xero", "SECRET_KEY"]

        # the key in the environment of `up` decrypts the signing keys
        made = command("token", "--role", "internal_admin", "--email", "a@example.com", *option)
        assert made.returncode == 0, made.stderr

        other = new_database_without_key(database_url)
        without_key = command("user", "list", *option, DATABASE_URL=other)
        assert without_key.returncode == 1 and "SECRET_KEY" in without_key.stderr and "Traceback" not in without_key.stderr
        assert servers(DATABASE_URL=other, SECRET_KEY="s" * 16) == {
            "Postgres": "ok", "RabbitMQ": "not set", "API": "not set", "mail": "not set", "Xero": "not set", "Slack": "not set",
        }  # fmt: skip
        assert asked(DATABASE_URL=other, SECRET_KEY="s" * 16) is None

        modes = {file.name: file.stat().st_mode & 0o777 for file in up.state.glob("*.json")}
        assert modes == {"run.json": 0o600, "settings.json": 0o600}
        secrets = [ENVIRONMENT["XERO_CLIENT_SECRET"], ENVIRONMENT["SECRET_KEY"]]
        assert not any(secret in (up.state / "run.json").read_text() or secret in up.said() for secret in secrets)
    finally:
        up.end(signal.SIGTERM)
    assert not (up.state / "settings.json").exists() and not (up.state / "asked").exists()
