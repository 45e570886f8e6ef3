"""Errors of commands: what is reported as one line instead of a traceback."""

import os
import select
import sys

# what is in a line that says why a program failed
_TELLING = (
    "fatal", "panic", "error", "fail", "could not", "cannot", "can't", "denied", "no space", "not permitted", "too long",
    "unrecognized", "unknown", "invalid", "hint:",
)  # fmt: skip


class CommandError(Exception):
    """An expected failure. Its text is one or two sentences: what is wrong, and what to do next; below them may be the lines
    of a program that has failed. The command exits with `code`."""

    def __init__(self, text: str, *, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def explains_itself(error: Exception) -> bool:
    """Whether the error's text is enough without a traceback: wrong settings, an unreachable database, one of
    another version or behind a pooler, an unusable file."""
    import psycopg

    from schemas.postgres.migrate import WrongVersion
    from schemas.postgres.server.pooler import PooledTransactions
    from schemas.settings import SettingsMissing

    return isinstance(error, SettingsMissing | WrongVersion | PooledTransactions | psycopg.Error | OSError)


def telling_lines(output: str, most: int = 8) -> list[str]:
    """The lines of a failed program's output that say why it failed, the last ones; if none does, its last three.
    Each line once."""
    lines = list(dict.fromkeys(line.strip() for line in output.splitlines() if line.strip()))
    telling = [line for line in lines if any(word in line.lower() for word in _TELLING)]
    return telling[-most:] or lines[-3:]


def close_stdout_if_unread() -> bool:
    """Whether the reader of our output has ended, as `| head` does. If so, output goes to /dev/null from now on."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
