"""Packages that only some tests use, by a lock of their own: installed once, beside the servers that tests keep."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def directory_of(lock: Path, name: str) -> Path:
    """A directory for PYTHONPATH with the lock's packages. Skips the test where they cannot be downloaded."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "stint"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = user_cache / f"{name}-{version}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if found.exists():
        return found
    user_cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=user_cache) as directory:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        made = Path(directory) / "packages"
        done = subprocess.run([*pip, "--target", made, "-r", lock], capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"the packages of {lock.name} cannot be installed here: {done.stderr.strip()[-300:]}")
        try:
            made.rename(found)
        except OSError:  # another worker of pytest was first
            shutil.rmtree(made)
    return found
