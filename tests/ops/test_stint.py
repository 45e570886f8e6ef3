"""The `stint` script: it creates .venv when that is missing or out of date, and only then."""

import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from ops.state import CHECKOUT
from tests.support.once_per_run import once

pytestmark = pytest.mark.slow  # each makes a virtual environment, which takes seconds


# Found as python3.13, it is a fake of Python, pip and uv that installs nothing. $SLOW names the step that takes 11 seconds.
FAKE_PYTHON = r"""#!/bin/sh
slow() { [ "$SLOW" != "$1" ] || sleep 11; }
here=$(dirname "$0")
case "$*" in
"-c "*) ;;
"-m venv "*)
    slow venv
    mkdir -p "$3/bin" "$3/lib/python3.13/site-packages/"
    cp "$0" "$3/bin/python"
    ;;
*"-m pip config list") echo "global.index-url='https://mirror.example/simple'" ;;
"-m pip install"*)
    echo "pip $*" >>"$CALLS"
    case "$*" in *--only-binary*)
        echo 'Installing collected packages: setuptools'
        [ -z "$UV" ] || { cp "$0" "$here/uv"; exit; }
        exit 1 ;;
    esac
    echo 'Collecting one==1'
    echo 'Processing /wheels/two-2.whl'
    slow pip
    ;;
"pip install"*)
    echo "uv $* $UV_DEFAULT_INDEX $(cat "$9")" >>"$CALLS"
    [ "$UV" = works ] || exit 1
    mkdir "$here/../lib/python3.13/site-packages/one-1.dist-info"
    slow uv
    ;;
*"-m compileall"*) slow compileall ;;
*"-m ops.cli"*) echo ran ;;
esac
"""
HASH = "sha256:" + 64 * "0"
LOCK = "".join(
    f"{name} \\\n    --hash={HASH} \\\n    --hash={HASH}\n" for name in ("one==1", "setuptools==80", "two==2", "uv==0.13")
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One that needs no packages, so that nothing is downloaded."""
    checkout = tmp_path / "a check out"
    (checkout / "ops").mkdir(parents=True)
    shutil.copy(CHECKOUT / "stint", checkout)
    (checkout / "requirements.lock").write_text("# none\n")
    (checkout / "ops" / "__init__.py").touch()
    (checkout / "ops" / "cli.py").write_text("import sys\nprint('ran', *sys.argv[1:])\n")
    return checkout


@pytest.fixture
def first_starts(checkout: Path, tmp_path: Path) -> list[tuple[str, str]]:
    """Standard output and standard error of two first starts at once, which the first test that asks makes."""

    def make() -> list[tuple[str, str]]:
        command = [str(checkout / "stint"), "a b", "c"]
        both = [
            subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        ends = [start.communicate(timeout=120) for start in both]
        (checkout / ".venv").rename(kept_environment())
        return ends

    return once("environment", make)


def kept_environment() -> Path:
    return Path(os.environ["STINT_TEST_HOME"]) / "environment"


@pytest.fixture
def made(checkout: Path, first_starts: list[tuple[str, str]]) -> Path:
    """One that has its environment already: a copy of what the first starts made."""
    shutil.copytree(kept_environment(), checkout / ".venv", symlinks=True)
    return checkout


def run(checkout: Path, *words: str, cwd: Path | None = None, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | ({"PATH": path} if path else {})
    return subprocess.run(
        [str(checkout / "stint"), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_two_first_starts_at_once_share_the_work_and_the_next_one_finds_it(
    made: Path, first_starts: list[tuple[str, str]]
) -> None:
    assert [out for out, _ in first_starts] == ["ran a b c\n", "ran a b c\n"]
    assert sum("first start: installing" in err for _, err in first_starts) == 1
    next_one = run(made, "again", cwd=Path("/"))
    assert (next_one.stdout, next_one.stderr) == ("ran again\n", "")  # it would say so if it installed anything


def test_a_changed_lock_is_noticed_once(made: Path) -> None:
    (made / "requirements.lock").write_text("# none still\n")
    assert "requirements.lock has changed" in run(made).stderr
    assert run(made).stderr == ""


def test_a_link_to_the_script_works_and_so_does_a_directory_called_ops(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stint").symlink_to(made / "stint")
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    assert run(tmp_path / "bin", "x", cwd=tmp_path).stdout == "ran x\n"


@pytest.fixture
def fake(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which Python, pip and uv are fakes. Sets a lock with packages."""
    (tmp_path / "fakes").mkdir()
    (tmp_path / "fakes" / "python3.13").write_text(FAKE_PYTHON)
    (tmp_path / "fakes" / "python3.13").chmod(0o755)
    (checkout / "requirements.lock").write_text(LOCK)
    return os.environ | {
        "PATH": f"{tmp_path}/fakes:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "UV": "works",
        "SLOW": "",
    }


def start(checkout: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(checkout / "stint")], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def longest_silence(checkout: Path, environment: dict[str, str]) -> tuple[float, str]:
    """The longest time without a line of progress, in seconds, and all of the lines."""
    starting, lines, times = start(checkout, environment), "", [time.monotonic()]
    assert starting.stderr
    for line in starting.stderr:
        times.append(time.monotonic())
        lines += line
    assert starting.communicate(timeout=30)[0] == "ran\n", lines
    times.append(time.monotonic())
    return max(after - before for before, after in pairwise(times)), lines


def test_no_step_of_a_first_start_is_silent_for_ten_seconds(checkout: Path, fake: dict[str, str], tmp_path: Path) -> None:
    steps = {
        "venv": "still creating the virtual environment, ",
        "pip": "still installing packages: 2 of 4 packages fetched",
        "uv": "still installing packages: 1 of 4 packages",
        "compileall": "still compiling packages: 0 of 0 files",
    }

    def slow_in(step: str) -> tuple[float, str]:
        copy = shutil.copytree(checkout, tmp_path / step)
        return longest_silence(copy, fake | {"SLOW": step, "UV": "fails" if step == "pip" else "works"})

    with ThreadPoolExecutor(len(steps)) as at_once:
        for (step, expected), (seconds, lines) in zip(steps.items(), at_once.map(slow_in, steps), strict=True):
            assert seconds < 10, f"{step}: {lines}"
            assert expected in lines


def test_a_first_start_that_waits_for_another_one_shows_its_progress(checkout: Path, fake: dict[str, str]) -> None:
    first = start(checkout, fake | {"SLOW": "uv"})
    time.sleep(2)
    seconds, lines = longest_silence(checkout, fake)
    assert seconds < 10 and "waiting for it" in lines and "still installing packages: 1 of 4 packages" in lines
    assert first.communicate(timeout=30)[0] == "ran\n"


def test_all_packages_are_installed_by_the_uv_of_the_lock_from_pips_index(checkout: Path, fake: dict[str, str]) -> None:
    assert run_with(checkout, fake).stdout == "ran\n"
    pip, *uv = Path(fake["CALLS"]).read_text().split("uv pip ")
    assert "--require-hashes" in pip and "--only-binary :all:" in pip
    assert len(uv) == 1 and "--require-hashes" in uv[0] and "https://mirror.example/simple" in uv[0]
    assert uv[0].endswith(f"{LOCK}")


@pytest.mark.parametrize("uv", ["fails", ""])
def test_pip_installs_what_uv_cannot(checkout: Path, fake: dict[str, str], uv: str) -> None:
    started = run_with(checkout, fake | {"UV": uv})
    assert started.stdout == "ran\n"
    assert ("trying pip" in started.stderr) == (uv == "fails")
    last = Path(fake["CALLS"]).read_text().splitlines()[-1]
    assert last.startswith("pip ") and last.endswith(f"-r {checkout}/requirements.lock") and "--require-hashes" in last


def test_after_kill_9_the_next_start_begins_again_and_nothing_reports_progress_any_more(
    checkout: Path, fake: dict[str, str]
) -> None:
    killed = start(checkout, fake | {"SLOW": "venv"})
    time.sleep(1)
    killed.send_signal(signal.SIGKILL)
    killed.wait(5)
    again = run_with(checkout, fake)
    assert again.stdout == "ran\n" and "first start: installing 4 packages" in again.stderr
    _, stderr = killed.communicate(timeout=15)
    assert not re.search(r"(?:[6-9]|1\d) s so far", stderr)


def run_with(checkout: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(checkout / "stint")], env=environment, capture_output=True, text=True, timeout=60)


def test_an_interrupted_start_is_repaired(checkout: Path, fake: dict[str, str]) -> None:
    run_with(checkout, fake)
    (checkout / ".venv" / "stint-lock").unlink()
    (checkout / ".venv" / "stint-unfinished").touch()
    (checkout / ".venv" / "half").touch()
    repaired = run_with(checkout, fake)
    assert (repaired.returncode, repaired.stdout) == (0, "ran\n")
    assert not (checkout / ".venv" / "half").exists()


def test_without_a_new_enough_python_it_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "date", "dirname", "readlink", "sleep", "cmp", "id", "grep", "flock"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    failed_shim = tools / "python3.13"
    failed_shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
    failed_shim.chmod(0o755)
    refused = run(checkout, path=str(tools))
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr and "apt-get install python3" in refused.stderr
