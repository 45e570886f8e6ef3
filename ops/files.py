"""Files that only their owner can read, and locks on files."""

import fcntl
import os
from pathlib import Path

_LITTLE_BYTES = 100_000  # a log line fits, but not what a server writes when it starts


def write_private(file: Path, content: str | bytes) -> None:
    """Replaces a file atomically: a reader sees the old content or the new one."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(unfinished, "xb", opener=private) as output:
        output.write(content.encode() if isinstance(content, str) else content)
    unfinished.replace(file)


def no_space(directory: Path) -> str:
    """A sentence if nothing more can be written to the directory's file system by a program that is not root, else nothing."""
    found = os.statvfs(directory)
    is_full = found.f_bavail * found.f_frsize < _LITTLE_BYTES or (found.f_files > 0 and found.f_favail == 0)
    return (
        f"There is no space left on the file system of {directory}: free some, or use another with --state." if is_full else ""
    )


def private(path: str, flags: int) -> int:
    """An `opener` for open() that creates files with mode 600."""
    return os.open(path, flags, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file if it is free, and returns whether it did. The kernel releases the lock when the process closes the
    file or ends."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
