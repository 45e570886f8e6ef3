"""Where an API process reports to the process that started it that it serves."""

import os
import socket


def report_ready() -> None:
    """Tells the process that NOTIFY_SOCKET names, a supervisor or systemd, that connections are accepted from now on."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_parent:
            to_parent.connect("\0" + address[1:] if address.startswith("@") else address)
            to_parent.send(b"READY=1")
