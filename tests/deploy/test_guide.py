"""What docs/deployment.md says about three hosts, as far as one machine can tell."""

import re
import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from schemas.setting_values import amqp_urls
from schemas.settings import Settings
from tests.support.installation import CHECKOUT
from tests.support.pages import blocks

GUIDE = CHECKOUT / "docs" / "deployment.md"


def test_the_settings_of_three_hosts_are_understood_by_systemd_and_shells(tmp_path: Path) -> None:
    [block] = [found for found in blocks(GUIDE, "ini") if found.text.startswith("DATABASE_URL")]
    (tmp_path / "stint.env").write_text(block.text)
    shell = subprocess.run(
        ["sh", "-aeuc", ". ./stint.env; env"], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    by_shell = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    by_systemd = {name: value.strip('"') for name, value in re.findall(r"^(\w+)=(.*)$", block.text, re.MULTILINE)}
    assert {name: by_shell[name] for name in by_systemd} == by_systemd
    settings = Settings(**{name.lower(): value for name, value in by_systemd.items()}, secret_key="16 characters at least")

    hosts = conninfo_to_dict(settings.database_url)
    assert str(hosts["host"]).count(",") == 2 and hosts["sslmode"] == "verify-full"
    assert [url.partition("@")[2][0] for url in amqp_urls(settings.broker_url)] == ["a", "b", "c"]
    assert str(hosts["host"]) == settings.trusted_proxies and settings.stint_queue_type == "quorum"


def test_each_step_names_what_exists() -> None:
    """Paths of the checkout in commands, which are of another installation and run nowhere."""
    text = "".join(block.text for block in blocks(GUIDE, "sh"))
    named = set(re.findall(r"(?:/srv/stint/|apply -k )([\w./*-]+)", text)) - {".venv/bin/python"}
    assert named and [path for path in named if not list(CHECKOUT.glob(path))] == []
