"""The services of compose.yaml that are Stint's, in containers of the built image, on a real Postgres and RabbitMQ."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from api.http.openapi import ASSETS
from tests.deploy.containers import Container, Containers, memory
from tests.deploy.images import NEEDS_IMAGE, Builder
from tests.deploy.test_compose import STINT
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation, eventually, free_port

pytestmark = NEEDS_IMAGE

CLI = ["python", "-m", "ops.cli"]
GRACE_SECONDS = 15  # stop_grace_period
API_PORT, MAIL_PORT = "8000", "2525"  # of compose.yaml; here each run has others


@contextmanager
def open_to_others(directory: Path) -> Iterator[None]:
    """Others may go through the directory of Postgres's socket meanwhile, as the image's account."""
    before = directory.stat().st_mode
    directory.chmod(0o711)
    yield
    directory.chmod(before)


@pytest.fixture
def containers(builder: Builder, own: Installation, tmp_path: Path) -> Iterator[Containers]:
    sockets = Path(str(conninfo_to_dict(own.database_url)["host"]))
    with open_to_others(sockets):
        yield Containers(
            builder,
            tmp_path,
            secrets={"database_url": own.database_url, "amqp_url": own.amqp_url, "secret_key": SECRET_KEY},
            binds=[sockets],
            hosts=["mail"],
            environment={"PUBLIC_URL": own.url, "SMTP_URL": f"smtp://mail:{free_port()}"},
        )


def is_healthy(container: Container, port: int) -> bool:
    kind, *test = STINT[container.service]["healthcheck"]["test"]
    words = ["sh", "-c", *test] if kind == "CMD-SHELL" else [word.replace(f":{API_PORT}/", f":{port}/") for word in test]
    return container.execute(*words).returncode == 0


def test_each_service_of_stint_runs_as_compose_says(containers: Containers, own: Installation) -> None:
    """A stop becomes a time bill, a mail is caught, the commands of the guides work, and each ends when it is told to."""
    assert all(service["stop_grace_period"] == f"{GRACE_SECONDS}s" for service in STINT.values())
    mail_port = containers.environment["SMTP_URL"].rpartition(":")[2]
    running: dict[str, Container] = {}
    with ExitStack() as stack:
        for name in sorted(STINT, key=lambda name: name != "migrate"):
            command = [str(own.port) if word == API_PORT else word for word in STINT[name]["command"]]
            command += ["--port", mail_port] if name == "mail" else []
            started = stack.enter_context(containers.running(name, STINT[name], command))
            if name == "migrate":
                assert started.process.wait(60) == 0, started.text
            else:
                running[name] = started
        for name, container in running.items():
            if "healthcheck" in STINT[name]:
                eventually(lambda container=container: is_healthy(container, own.port), seconds=90, why=container.text)
            assert_confined(container)

        given = Given(own)
        by = given.person()
        task = given.task(by)
        by.post(f"/api/tasks/{task['id']}/start")
        stop = by.post(f"/api/tasks/{task['id']}/stop", status=202)
        by.http.post("/auth/code", json={"email": by.email}).raise_for_status()
        given.settled()
        assert by.get(f"/api/time-entries/{stop['entryId']}")["timeBillId"]
        assert running["mail"].output("ls", "/mail")
        pages = (f"{own.url}/docs", *(f"{own.url}{ASSETS}/{name}" for name in ("swagger-ui.css", "swagger-ui-bundle.js")))
        assert all(given.client({}).get(page).status_code == 200 for page in pages)
        given.close()

        api = running["api"]
        assert api.output(*CLI, "token", "--role", "internal_admin", "--email", "you@example.com").count(".") == 2
        assert "Nothing is wrong." in api.output(*CLI, "doctor")
        assert "Postgres  ok" in api.output(*CLI, "status")
        api.output("sh", "-euc", "python -m ops.cli backup /tmp/archives && python -m ops.cli restore /tmp/archives --check")
        for name, container in running.items():
            # the mail catcher does nothing when it ends: its status is that of SIGTERM
            assert container.stop(143 if name == "mail" else 0) < GRACE_SECONDS


def assert_confined(container: Container) -> None:
    service = STINT[container.service]
    assert container.output("id", "--user") == "10001"
    assert container.output("sh", "-c", "! touch /stint/x /opt/venv/x 2>&1").count("Read-only file system") == 2
    status = dict(line.split(":\t", 1) for line in container.output("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert container.limits() == (memory(service["mem_limit"]), service["pids_limit"])
