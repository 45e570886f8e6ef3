"""The mail catcher: without a mail server, each mail becomes a file, and none leaves the machine.

`./stint up` contains one; `python -m ops.up.mailbox` runs one alone, as compose.yaml does.
"""

import argparse
import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from ops.files import write_private


class Mailbox:
    """An SMTP server that stores each mail as an .eml file, named by the time of its arrival."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server: asyncio.Server | None = None
        self._count = 0

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Starts to listen, with port 0 on a free port, and returns the SMTP_URL."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="localhost", enable_SMTPUTF8=True, loop=loop), host, port
        )
        return f"smtp://{host}:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Accepts a mail after it has been written to disk."""
        self._count += 1
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}-{self._count}.eml"
        await asyncio.to_thread(write_private, self.directory / name, envelope.original_content or b"")
        return "250 kept"


async def _run(directory: Path, host: str, port: int) -> None:
    mailbox = Mailbox(directory)
    print(f"catching mail at {await mailbox.open(host, port)} in {directory}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="ops.up.mailbox", description="Stores each mail that arrives as a file.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525)
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.directory, arguments.host, arguments.port))
