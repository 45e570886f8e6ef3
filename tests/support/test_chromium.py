"""Which Chromium the tests use, and what they do without one. The cache, and the programs, are stand-ins."""

from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.up.packages.debian import cached
from ops.up.processes import PLAIN_ENVIRONMENT
from tests.support import chromium, servers


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory of programs, the only one, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(PLAIN_ENVIRONMENT, "PATH", str(tmp_path))
    return tmp_path


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_is_in_the_cache_comes_first_and_then_what_is_installed(empty: Path) -> None:
    assert chromium.find() is None
    installed = program(empty / "chromium")
    found = chromium.find()
    assert found and found.program == installed
    root = cached(chromium.PACKAGES, servers.KEPT)
    unpacked = program(root / "usr/lib/chromium/chromium-headless-shell")
    (root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    found = chromium.find_or_download()
    assert found.program == unpacked
    assert found.environment["LD_LIBRARY_PATH"] == str(root / "usr/lib/x86_64-linux-gnu")
    assert Path(found.environment["FONTCONFIG_FILE"]).exists()


def test_without_one_there_is_one_line_that_says_why(empty: Path) -> None:
    with pytest.raises(CommandError, match=r"^no Chromium is installed here, and without apt it cannot be downloaded$"):
        chromium.find_or_download()
    program(empty / "dpkg-deb")
    program(empty / "apt-get", "echo reading; echo 'E: Could not resolve the host' >&2; exit 100")
    said: list[str] = []
    with pytest.raises(CommandError) as failed:
        chromium.find_or_download(said.append)
    assert "Debian's could not be downloaded" in str(failed.value) and "Could not resolve" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert said[1:] == ["reading the package lists"]
