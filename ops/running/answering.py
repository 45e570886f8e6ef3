"""The `./stint up` that runs answers what other commands ask (ops/running/asking.py)."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ops.running.asking import ANSWER_SECONDS, REPORT, SOCKET, Json, short_path


async def answer_on(directory: Path, answers: Mapping[bytes, Callable[..., Awaitable[Json]]]) -> asyncio.Server:
    """Answers each request by the function that it names, with its arguments, until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):  # the client has gone away, or sends no line
                async with asyncio.timeout(ANSWER_SECONDS[REPORT]):
                    line = await reader.readline()
                request, _, arguments = line.strip().partition(b" ")
                if request in answers:
                    async with asyncio.timeout(ANSWER_SECONDS[request]):
                        answered = await answers[request](**json.loads(arguments or b"{}"))
                        writer.write(json.dumps(answered).encode())
                        await writer.drain()
        finally:
            writer.close()

    listening = socket.socket(socket.AF_UNIX)
    (directory / SOCKET).unlink(missing_ok=True)
    with short_path(directory) as path:
        mask = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(mask)
    return await asyncio.start_unix_server(answer, sock=listening)
