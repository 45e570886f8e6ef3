"""What the commands that act on messages share: who acts, and how errors are reported."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ops.dead.selection import NOTHING_MATCHED
from ops.errors import CommandError
from schemas.errors import Invalid, NotFound, StintError


def who() -> str:
    """The account as the operating system knows it, whatever the environment says, and the host."""
    try:
        account = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        account = f"user {os.geteuid()}"
    return f"{account} on {socket.gethostname()} (terminal)"


@contextmanager
def command_errors() -> Iterator[None]:
    """Turns what the domain refuses into errors of the command, with its exit code."""
    try:
        yield
    except Invalid as error:
        raise CommandError("; ".join(f"{fault.path}: {fault.message}" for fault in error.errors)) from error
    except NotFound as error:
        raise CommandError(error.detail, code=NOTHING_MATCHED) from error
    except StintError as error:
        raise CommandError(error.detail) from error
