"""compose.yaml: it starts all that `./stint up` starts, with secrets as files, and confined. No Docker engine is needed."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import cli, secret_files
from ops.up.up import _WORKERS
from schemas.settings import Settings
from tests.support.installation import CHECKOUT
from tests.support.pages import blocks

COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STINT = {name: service for name, service in SERVICES.items() if service["image"] == "stint"}
FIRST_LINE = "mkdir -m 700 secrets"


def test_it_starts_the_parts_of_up_with_commands_that_exist() -> None:
    queues = []
    for name, service in STINT.items():
        python, m, module, *words = service["command"]
        assert (python, m) == ("python", "-m")
        if module == "ops.cli":
            args = cli._parser().parse_args(words)
            queues += [args.queues] if words[0] == "work" else []
        else:
            assert (name, module) == ("mail", "ops.up.mailbox")
    assert sorted(queues) == sorted(_WORKERS.values())
    assert {"api", "relay", "migrate"} <= set(STINT)


def test_its_settings_exist_and_the_secrets_are_files() -> None:
    from_files = {f"{name}_FILE" for name in secret_files.NAMES}
    for service in STINT.values():
        named = set(service["environment"]) - {"STINT_ALIVE_FILE"}  # it is the supervisor's, as NOTIFY_SOCKET is
        assert {name.lower() for name in named - from_files} - set(Settings.model_fields) == set()
        assert named >= {"DATABASE_URL_FILE", "AMQP_URL_FILE", "SECRET_KEY_FILE"}
        assert not named & {"DATABASE_URL", "AMQP_URL", "SECRET_KEY"}
        mounted = {f"/run/secrets/{name}" for name in service["secrets"]}
        assert named >= {"STINT_URL"} and service["environment"]["STINT_URL"] == "http://api:8000"
        assert not mounted or mounted == {value for name, value in service["environment"].items() if name in from_files}
    for service in SERVICES.values():
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]


def test_the_guide_makes_each_file_of_a_secret(tmp_path: Path) -> None:
    [block] = [found for found in blocks(CHECKOUT / "docs" / "deployment.md", "sh") if found.text.startswith(FIRST_LINE)]
    commands = "".join(line for line in block.text.splitlines(keepends=True) if not line.startswith("docker "))
    subprocess.run(["sh", "-euc", commands], cwd=tmp_path, check=True)
    made = {str(path.relative_to(tmp_path)): path for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o004 for path in made.values()), "the account in the container reads them"
    texts = {name.removeprefix("secrets/"): path.read_text().strip() for name, path in made.items()}
    assert f"stint:{texts['postgres_password']}@postgres:5432/stint" in texts["database_url"]
    [user, password] = re.findall(r" = (.+)$", texts["rabbitmq.conf"], re.MULTILINE)
    assert f"{user}:{password}@rabbitmq:5672/" in texts["amqp_url"]
    assert len(texts["secret_key"]) == 64


def test_services_are_confined_and_can_be_scaled() -> None:
    for name, service in STINT.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"] and service["pids_limit"] and "user" not in service, name
        if name != "api":
            assert "ports" not in service and "container_name" not in service, name
    for name, service in SERVICES.items():
        assert "no-new-privileges:true" in service["security_opt"] and service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"] and service["cpus"] and service["pids_limit"], name
    servers = {name: service["user"] for name, service in SERVICES.items() if name not in STINT}
    assert servers == {"postgres": "postgres", "rabbitmq": "rabbitmq"}, "as root they would need capabilities"
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    assert re.search(r"^USER (?!root|0)", dockerfile, re.MULTILINE)


@pytest.mark.parametrize("name", [*(name for name in STINT if name.startswith("work")), "relay"])
def test_a_worker_or_relay_is_healthy_if_its_file_is_young(name: str, tmp_path: Path) -> None:
    kind, command = STINT[name]["healthcheck"]["test"]
    file = STINT[name]["environment"]["STINT_ALIVE_FILE"]
    assert kind == "CMD-SHELL" and file in command

    def is_healthy() -> bool:
        return (
            subprocess.run(["sh", "-c", command.replace(file, str(tmp_path / "alive"))], stderr=subprocess.DEVNULL).returncode
            == 0
        )

    assert not is_healthy()
    (tmp_path / "alive").touch()
    assert is_healthy()
    then = (tmp_path / "alive").stat().st_mtime - 40
    os.utime(tmp_path / "alive", (then, then))
    assert not is_healthy()
