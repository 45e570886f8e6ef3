"""The start of a process: imports without garbage collections, the listening socket of an API, and reports to the supervisor
that the process serves, and later that it is alive."""

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKLOG = 4096  # connections that wait until a process accepts them; the kernel's net.core.somaxconn may limit it further


@contextmanager
def no_collections() -> Iterator[None]:
    """No garbage is collected inside the block, and later collections do not look at what is there at its end. The imports of
    an API process make hundreds of thousands of objects, which stay: with collections, a start takes a third longer."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def listening_socket(fd: int) -> socket.socket:
    """The listening TCP socket with that file descriptor, which the parent process opened and keeps open. Raises ValueError
    for a descriptor that is none."""
    try:
        inherited = socket.socket(fileno=fd)
    except (OSError, ValueError, OverflowError) as error:  # such as a descriptor that is negative, or too large for C
        raise ValueError(f"--fd {fd} is no socket ({getattr(error, 'strerror', None) or error}).") from error
    if inherited.type != socket.SOCK_STREAM or not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.detach()  # it is not this function's to close
        raise ValueError(f"--fd {fd} is a socket that does not listen for connections.")
    return inherited


def report_ready() -> None:
    """Tells the process that NOTIFY_SOCKET names, a supervisor or systemd, that this process serves from now on. Does
    nothing without that variable."""
    _notify(b"READY=1")


def report_alive() -> None:
    """Renews the time of the file that STINT_ALIVE_FILE names, for the health check of a container, and systemd's watchdog if
    the unit has one (WATCHDOG_USEC)."""
    if file := os.environ.get("STINT_ALIVE_FILE"):
        with suppress(OSError):  # a full disk must not end the process
            Path(file).touch(mode=0o600)
    if os.environ.get("WATCHDOG_USEC"):
        _notify(b"WATCHDOG=1")


def _notify(message: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_parent:
            to_parent.connect("\0" + address[1:] if address.startswith("@") else address)
            to_parent.sendall(message)
