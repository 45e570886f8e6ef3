"""The units of systemd: they are valid, they name all that `./stint up` starts, and their commands run within their limits."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.up.up import _WORKERS
from schemas.messages import QUEUES
from schemas.settings import Settings
from tests.deploy import units
from tests.support.given import Given
from tests.support.installation import CHECKOUT, Installation
from tests.support.pages import blocks

GUIDE = CHECKOUT / "docs" / "deployment.md"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed, so the units are not verified"
)
# the highest that `systemd-analyze security` may say, in tenths: 100 is a service without limits
EXPOSURE = 20


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, for this checkout."""
    copies = tmp_path_factory.mktemp("units")
    shutil.copytree(units.UNITS, copies, symlinks=True, dirs_exist_ok=True)
    for path in copies.glob("stint-*.service"):
        path.write_text(path.read_text().replace(units.INSTALLED, str(CHECKOUT)))
    return copies


def analyze(copies: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{copies}:"}
    return subprocess.run(["systemd-analyze", *words], env=environment, capture_output=True, text=True)


@needs_systemd
def test_the_units_are_valid_and_confine_their_services(copies: Path) -> None:
    names = [name.replace("@", "@timers") for name in units.all_units()]
    verified = analyze(copies, "verify", "--man=no", *names)
    assert (verified.returncode, verified.stderr) == (0, "")
    for name in names:
        if name.endswith(".service"):
            judged = analyze(copies, "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE}", name)
            assert judged.returncode == 0, judged.stdout


def test_the_units_name_all_parts_and_queues_of_up() -> None:
    """The guide names the same instances."""
    assert set(units.all_units()) == {
        "stint-api.socket", "stint-api.service", "stint-relay.service", "stint-work@.service", "stint-migrate.service",
    }  # fmt: skip
    written = (units.UNITS / "stint-work@.service").read_text()
    instances = re.findall(r"stint-work@([a-z-]+)[,.]", written.splitlines()[0])
    assert [instance.replace("-", ",") for instance in instances] == list(_WORKERS.values())
    assert sorted(queue for instance in instances for queue in instance.split("-")) == sorted(QUEUES)
    assert " ".join(f"stint-work@{instance}" for instance in instances) in GUIDE.read_text()


def test_what_is_common_overrides_nothing_that_a_unit_says() -> None:
    """systemd reads common.conf after the unit, so of two values the unit's would be lost."""
    for unit in units.all_units().values():
        twice = {name for name, values in unit.values.items() if len(values) > 1} - {"SystemCallFilter", "After", "Wants"}
        assert twice == set(), unit.name
        restart = unit.values["Restart"]
        assert unit.name.endswith(".socket") or restart == [{"stint-migrate.service": "on-failure"}.get(unit.name, "always")]


def test_the_file_of_settings_has_real_ones_and_a_shell_reads_it_too() -> None:
    path = units.UNITS / "stint.env"
    named = re.findall(r"^([A-Z_]+)=", path.read_text(), re.MULTILINE)
    assert {name.lower() for name in named} - set(Settings.model_fields) == set() and len(named) == len(set(named))
    [socket] = units.read(units.UNITS / "stint-api.socket").values["ListenStream"]
    assert f"\nSTINT_URL=http://{socket}\n" in path.read_text()
    script = f'set -aeu; . {shlex.quote(str(path))}; printf %s "$MAIL_FROM"'
    assert (
        subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == "Stint <stint@example.com>"
    )


def test_the_guide_installs_settings_and_units(tmp_path: Path) -> None:
    """The block of the guide that does it, for another root directory."""
    [block] = [block for block in blocks(GUIDE, "sh") if block.text.startswith("install -d")]
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    script = block.text.replace(" /etc/", f" {tmp_path}/etc/").replace(f" {units.INSTALLED}/", f" {CHECKOUT}/")
    subprocess.run(["sh", "-euc", script], env=os.environ | {"PASSWORD": "from-the-guide"}, check=True)

    installed = tmp_path / "etc/stint/stint.env"
    assert installed.stat().st_mode & 0o777 == 0o600
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", installed.read_text(), re.MULTILINE))
    assert "stint:from-the-guide@" in values["DATABASE_URL"] and "stint:from-the-guide@" in values["AMQP_URL"]
    assert len(values["SECRET_KEY"]) == 64
    names = {path.name for path in (tmp_path / "etc/systemd/system").iterdir()}
    assert names == {*units.all_units(), "stint-.service.d", "stint-work@.service.d"}
    assert (tmp_path / "etc/systemd/system/stint-work@.service.d/common.conf").read_text()


@needs_systemd
@pytest.mark.processes
def test_the_commands_run_within_the_limits_of_their_units(own: Installation, tmp_path: Path) -> None:
    """All of Stint, as the units start it: a stop becomes a bill, and each ends in time when it is told to."""
    found = units.all_units()
    migrated = units.start(found["stint-migrate.service"], own.environment, tmp_path / "migrate.log")
    assert migrated.wait(60) == 0, (tmp_path / "migrate.log").read_text()
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", own.port)))
        reports = {}
        (tmp_path / "run").mkdir()
        for name, instance, passed in (
            ("stint-relay.service", "", None),
            ("stint-work@.service", "-".join(QUEUES), None),
            ("stint-api.service", "", listening),
        ):
            reports[name] = stack.enter_context(units.notify_socket(tmp_path / name))
            environment = {"NOTIFY_SOCKET": str(tmp_path / name), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
            if found[name].values["WatchdogSec"]:
                environment |= {"WATCHDOG_USEC": "60000000", "STINT_ALIVE_FILE": str(tmp_path / f"{name}.alive")}
            log = tmp_path / f"{name}.log"
            own.processes[name] = units.start(
                found[name], own.environment | environment, log, instance=instance, listening=passed
            )
        for name, reported in reports.items():
            reported.settimeout(90)
            expected = {b"READY=1", b"WATCHDOG=1"} if found[name].values["WatchdogSec"] else {b"READY=1"}
            seen: set[bytes] = set()
            while seen != expected:
                seen.add(reported.recv(64))
            assert len(expected) == 1 or (tmp_path / f"{name}.alive").exists()

        given = Given(own)
        by = given.person()
        task = given.task(by)
        by.post(f"/api/tasks/{task['id']}/start")
        stop = by.post(f"/api/tasks/{task['id']}/stop", status=202)
        given.settled()
        assert by.get(f"/api/time-entries/{stop['entryId']}")["timeBillId"]
        given.close()

        for name in reports:
            own.processes[name].send_signal(signal.SIGTERM)
        for name in reports:
            assert own.processes.pop(name).wait(20) == 0, name
