"""The `stint` script: it makes .venv when it has to, and only then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ops.state import CHECKOUT
from tests.once import once

pytestmark = pytest.mark.slow  # each makes a virtual environment, which takes seconds


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
def made(checkout: Path) -> Path:
    """One that has its environment already: a copy of what the first test made that asked."""
    kept = Path(os.environ["STINT_TEST_HOME"]) / "environment"

    def make() -> None:
        run(checkout)
        (checkout / ".venv").rename(kept)

    once("environment", make)
    shutil.copytree(kept, checkout / ".venv", symlinks=True)
    return checkout


def run(checkout: Path, *words: str, cwd: Path | None = None, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | ({"PATH": path} if path else {})
    return subprocess.run(
        [str(checkout / "stint"), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_first_start_makes_the_environment_and_the_next_one_finds_it(checkout: Path, tmp_path: Path) -> None:
    first = run(checkout, "a b", "c", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "ran a b c\n")
    assert "first start: installing" in first.stderr
    second = run(checkout, "again", cwd=Path("/"))
    assert (second.stdout, second.stderr) == ("ran again\n", "")  # it would say so if it installed anything


def test_a_changed_lock_is_noticed_once(made: Path) -> None:
    (made / "requirements.lock").write_text("# none still\n")
    assert "requirements.lock has changed" in run(made).stderr
    assert run(made).stderr == ""


def test_an_interrupted_start_is_repaired(made: Path) -> None:
    (made / ".venv" / "stint-lock").unlink()
    (made / ".venv" / "stint-unfinished").touch()
    (made / ".venv" / "half").touch()
    repaired = run(made)
    assert (repaired.returncode, repaired.stdout) == (0, "ran\n")
    assert not (made / ".venv" / "half").exists()


def test_two_first_starts_at_once_share_the_work(checkout: Path) -> None:
    both = [
        subprocess.Popen([str(checkout / "stint")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = [start.communicate(timeout=120) for start in both]
    assert [out for out, _ in ends] == ["ran\n", "ran\n"]
    assert sum("installing" in err and "first start" in err for _, err in ends) == 1


def test_a_link_to_the_script_works_and_so_does_a_directory_called_ops(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stint").symlink_to(made / "stint")
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    assert run(tmp_path / "bin", "x", cwd=tmp_path).stdout == "ran x\n"


def test_without_a_new_enough_python_it_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "readlink", "cmp", "id", "grep", "flock"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    failed_shim = tools / "python3.13"
    failed_shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
    failed_shim.chmod(0o755)
    refused = run(checkout, path=str(tools))
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr and "apt-get install python3" in refused.stderr
