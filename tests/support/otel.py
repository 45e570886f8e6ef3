"""OpenTelemetry's packages for a test, by requirements-otel.lock: installed once, beside the servers that tests keep."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT

LOCK = CHECKOUT / "requirements-otel.lock"


def packages() -> Path:
    """A directory for PYTHONPATH. Skips the test where nothing can be downloaded."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "stint"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = user_cache / f"otel-{version}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if found.exists():
        return found
    user_cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=user_cache) as directory:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        made = Path(directory) / "packages"
        done = subprocess.run([*pip, "--target", made, "-r", LOCK], capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"OpenTelemetry's packages cannot be installed here: {done.stderr.strip()[-300:]}")
        try:
            made.rename(found)
        except OSError:  # another worker of pytest was first
            shutil.rmtree(made)
    return found
