"""A small file system for the data of a private Postgres, which a drill fills."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 400
NOT_ROOT = "only root may mount the small file system that this fills"


@contextmanager
def small_disk(directory: Path) -> Iterator[Path | None]:
    """Mounts one there; None where that is not allowed."""
    directory.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=711", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    # a process of its own unmounts it, also if this one is killed: pytest could never remove what is mounted
    script = 'read -r nothing; exec umount -l -- "$1"'
    unmounting = subprocess.Popen(
        ["/bin/sh", "-c", script, "unmounting", str(directory)], stdin=subprocess.PIPE, cwd="/", start_new_session=True
    )
    try:
        yield directory
    finally:
        unmounting.communicate()
        assert unmounting.returncode == 0


def fill(disk: Path) -> Path:
    """Writes a file until no space is left, and returns it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
    return ballast
