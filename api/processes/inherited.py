"""What an API process gets from the process that starts it: a listening socket, and where to report that it serves."""

import os
import socket


def listening_socket(fd: int) -> socket.socket:
    """The listening TCP socket with that file descriptor, which the parent process opened and keeps open. Raises ValueError
    for a descriptor that is none."""
    try:
        inherited = socket.socket(fileno=fd)
    except OSError as error:
        raise ValueError(f"--fd {fd} is no socket ({error.strerror}).") from error
    if inherited.type != socket.SOCK_STREAM or not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.detach()  # it is not this function's to close
        raise ValueError(f"--fd {fd} is a socket that does not listen for connections.")
    return inherited


def report_ready() -> None:
    """Tells the process that NOTIFY_SOCKET names, a supervisor or systemd, that connections are accepted from now on."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_parent:
            to_parent.connect("\0" + address[1:] if address.startswith("@") else address)
            to_parent.send(b"READY=1")
