"""What docs/deployment.md and docs/three-hosts.md say about hosts, as far as one machine can tell."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from ops.running import diagnosis
from ops.running.diagnosis import Report, api_source
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.report.collect import as_json
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import QUEUES
from schemas.outbox.heartbeats import Process
from schemas.outbox.metrics import QueueDepth
from schemas.setting_values import amqp_urls
from schemas.settings import Settings
from tests.deploy import units
from tests.support.installation import CHECKOUT
from tests.support.pages import blocks, sample

ONE_HOST, THREE_HOSTS = CHECKOUT / "docs" / "deployment.md", CHECKOUT / "docs" / "three-hosts.md"
FILES = CHECKOUT / "ops" / "deploy" / "hosts"
NAMES = ["a", "b", "c"]
VALUES = {
    "NAME": "a", "ADDRESS": "10.0.0.1",
    "SUPERUSER": "1" * 64, "REPLICATION": "2" * 64, "STINT": "3" * 64, "SECRET_KEY": "4" * 64,
}  # fmt: skip


def filled(name: str) -> str:
    """The file as the guide's `fill` makes it on host `a`."""
    [block] = [found.text for found in blocks(THREE_HOSTS, "sh") if "fill() {" in found.text]
    [function] = re.findall(r"^fill\(\) \{\n.*?^\}", block, re.MULTILINE | re.DOTALL)
    script = f"{function.replace('/srv/stint', str(CHECKOUT))}\nfill {name}"
    return subprocess.run(["sh", "-euc", script], env=VALUES, capture_output=True, text=True, check=True).stdout


def values_of(text: str) -> dict[str, str]:
    """The lines `name = value` of a file; of a name that is there twice the last."""
    return {name: value.strip('"') for name, value in re.findall(r"^([\w.-]+) ?= ?(.*)$", text, re.MULTILINE)}


def test_the_settings_of_three_hosts_are_understood_by_systemd_and_shells(tmp_path: Path) -> None:
    text = (units.UNITS / "stint.env").read_text() + filled("stint.env")
    (tmp_path / "stint.env").write_text(text)
    shell = subprocess.run(
        ["sh", "-aeuc", ". ./stint.env; env"], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    by_shell = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    by_systemd = values_of(text)
    assert {name: by_shell[name] for name in by_systemd} == by_systemd
    settings = Settings(**{name.lower(): value for name, value in by_systemd.items() if value})

    postgres = conninfo_to_dict(settings.database_url)
    assert str(postgres["host"]).split(",") == NAMES and postgres["sslmode"] == "verify-full"
    assert [url.partition("@")[2][0] for url in amqp_urls(settings.broker_url)] == NAMES
    # the API's proxy is on its own host
    assert settings.trusted_proxies == "127.0.0.1" and settings.stint_queue_type == "quorum"
    assert postgres["password"] == VALUES["STINT"] and by_systemd["SECRET_KEY"] == VALUES["SECRET_KEY"]


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir()))
def test_the_guide_fills_in_each_file(name: str) -> None:
    steps = "".join(block.text for block in blocks(THREE_HOSTS, "sh"))
    assert f"fill {name}" in steps or f"ops/deploy/hosts/{name} " in steps
    assert re.findall(r"@[A-Z_]+@", filled(name)) == []


def test_the_files_of_three_hosts_agree_with_each_other() -> None:
    patroni = yaml.safe_load(filled("patroni.yml"))
    etcd, rabbitmq, proxy = values_of(filled("etcd")), values_of(filled("rabbitmq.conf")), filled("haproxy.cfg")
    assert etcd["ETCD_INITIAL_CLUSTER"].split(",") == [f"{name}=https://{name}:2380" for name in NAMES]
    assert patroni["etcd3"]["hosts"].split(",") == [f"{name}:2379" for name in NAMES]
    assert etcd["ETCD_ADVERTISE_CLIENT_URLS"] == "https://a:2379" and patroni["etcd3"]["protocol"] == "https"
    nodes = [value for name, value in rabbitmq.items() if ".nodes." in name]
    assert nodes == [f"rabbit@{name}" for name in NAMES] and values_of(filled("rabbitmq-env.conf"))["NODENAME"] in nodes
    # an acknowledged commit is on two hosts, and only TLS leads to Postgres from outside
    assert patroni["bootstrap"]["dcs"]["synchronous_mode"] is True
    assert [line.split()[0] for line in patroni["postgresql"]["pg_hba"]] == ["local", "hostssl", "hostssl"]
    data = patroni["postgresql"]["data_dir"]
    repository, host = values_of(filled("pgbackrest-backup.conf")), values_of(filled("pgbackrest.conf"))
    assert [repository[f"pg{number}-path"] for number in (1, 2, 3)] == [host["pg1-path"]] * 3 == [data] * 3
    assert [repository[f"pg{number}-host"] for number in (1, 2, 3)] == NAMES and host["repo1-host"] == "backup"
    # the proxies ask each other with certificates, and the last one asks the API's socket
    assert re.findall(r"^    server (\w) (\w):8443 verifyhost (\w)$", proxy, re.MULTILINE) == [(name,) * 3 for name in NAMES]
    assert re.search(r"^    bind 10\.0\.0\.1:8443 ssl .* verify required$", proxy, re.MULTILINE)
    [socket] = units.read(units.UNITS / "stint-api.socket").values["ListenStream"]
    assert f"server api {socket}\n" in proxy


@pytest.mark.parametrize("page", [ONE_HOST, THREE_HOSTS], ids=lambda page: page.name)
def test_each_step_names_what_exists(page: Path) -> None:
    """Paths of the checkout in commands, which are of another installation and run nowhere."""
    text = "".join(block.text for block in blocks(page, "sh"))
    named = set(re.findall(r"(?:/srv/stint/|apply -k )([\w./*-]+)", text)) - {".venv/bin/python", "ops/deploy/hosts/"}
    assert named and [path for path in named if not list(CHECKOUT.glob(path))] == []


def test_the_guide_shows_what_the_commands_print_on_three_hosts_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    served = [("relay", []), *(("work", names.split("-")) for names in ("timers", "bills", "xero-slack-mail"))]
    status = InstallationStatus(
        servers={"Postgres": "ok", "RabbitMQ": "ok", "API": "ok", "mail": "not set", "Xero": "not set", "Slack": "not set"},
        queues=[QueueDepth(name=name) for name in QUEUES],
        processes=[
            Process(process=f"{host}:{number}", kind=kind, queues=queues, started_at=now, seen_at=now, alive=True)
            for host in NAMES
            for number, (kind, queues) in enumerate(served)
        ],
    )
    assert diagnose(status) == []
    source = api_source("https://stint.example.com")
    report = Report(as_json(status), [], None, source)
    diagnosis.show_findings(report)
    diagnosis.show_status(report)
    assert sample(THREE_HOSTS, source) == capsys.readouterr().out
