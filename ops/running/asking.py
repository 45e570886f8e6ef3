"""Asking the `./stint up` that runs: what it finds with its own settings and connections, whatever those of this shell are.

It listens on a Unix socket in its state directory, which only its user can open (ops/running/answering.py). A request is one
line: a word, and JSON with the arguments if there are any. The answer is JSON."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SOCKET = "asked"  # its name in the state directory
REPORT, RESTART, TOKEN = b"report", b"restart", b"token"
ANSWER_SECONDS = {REPORT: 60.0, RESTART: 900.0, TOKEN: 60.0}
_LONGEST_PATH = 100  # a Unix socket's path has 107 bytes at most


def ask(directory: Path, request: bytes = REPORT, **arguments: str | None) -> Json:
    """What the `up` that runs on the state directory answers. Raises OSError if it does not, ValueError if that is no JSON."""
    line = b" ".join([request, json.dumps(arguments).encode()]) if arguments else request
    with socket.socket(socket.AF_UNIX) as client, short_path(directory) as path:
        client.settimeout(ANSWER_SECONDS[request])
        client.connect(path)
        client.sendall(line + b"\n")
        with client.makefile("rb") as answer:
            return dict(json.loads(answer.read()))


@contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """A path of the socket that is short enough: a long one is reached through a descriptor of its directory."""
    path = str(directory / SOCKET)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
