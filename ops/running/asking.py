"""Asking the `./stint up` that runs: what it finds with its own settings and connections, whatever those of this shell are.

It listens on a Unix socket in its state directory, which only its user can open. A request is one line; the answer is JSON."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SOCKET = "asked"  # its name in the state directory
REQUEST = b"report\n"
ANSWER_SECONDS = 60.0
_LONGEST_PATH = 100  # a Unix socket's path has 107 bytes at most


def ask(directory: Path) -> Json:
    """What the `up` that runs on the state directory answers. Raises OSError if it does not, ValueError if that is no JSON."""
    with socket.socket(socket.AF_UNIX) as client, _short_path(directory) as path:
        client.settimeout(ANSWER_SECONDS)
        client.connect(path)
        client.sendall(REQUEST)
        with client.makefile("rb") as answer:
            return dict(json.loads(answer.read()))


async def answer_on(directory: Path, report: Callable[[], Awaitable[Json]]) -> asyncio.Server:
    """Answers each request with a report until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client has gone away, or sends no line
            async with asyncio.timeout(ANSWER_SECONDS):
                if await reader.readline() == REQUEST:
                    writer.write(json.dumps(await report()).encode())
                    await writer.drain()
        writer.close()

    listening = socket.socket(socket.AF_UNIX)
    (directory / SOCKET).unlink(missing_ok=True)
    with _short_path(directory) as path:
        mask = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(mask)
    return await asyncio.start_unix_server(answer, sock=listening)


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
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
