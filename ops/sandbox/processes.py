"""`./stint up --sandbox`: stand-ins for Xero and Slack as two more processes, and Stint connected to them."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import httpx2

from ops.errors import CommandError
from ops.sandbox.slack import stand_in
from ops.sandbox.xero import stand_in as xero
from ops.sandbox.xero.store import FIRST_TENANT_ID
from ops.state import State
from ops.up.processes import Program, until
from schemas.postgres.connection import connect
from schemas.settings import settings

FALLBACK_USER = "sandbox@example.com"
BUSY_SECONDS = 120.0
_TIMEOUT_SECONDS, _AGAIN_SECONDS = 20, 0.5


def check_without(state: State) -> None:
    """Raises CommandError when the state was used with a sandbox: its synced bills are in no real Xero."""
    if _directory(state).is_dir():
        raise CommandError(
            f"{state.directory} was used with a sandbox, so its bills are not in the real Xero: "
            "add --sandbox, or name another directory with --state."
        )


class StandInProcess(Program):
    """A stand-in as a process with its own port."""

    def __init__(self, name: str, arguments: list[str], logs: Path, *, port: int) -> None:
        super().__init__(name, [*arguments, "--port", str(port)], logs)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
            return self.is_running()
        return False


class SlackProcess(StandInProcess):
    """The stand-in for Slack, with a page for typing commands. It stores nothing."""

    def __init__(self, logs: Path, *, port: int, api_url: str) -> None:
        super().__init__("sandbox slack", ["ops.sandbox.slack.stand_in", "--app", api_url], logs, port=port)

    def environment(self) -> dict[str, str]:
        """The settings that make Stint use this instead of Slack; they replace others."""
        return stand_in.environment(self.url)


class XeroProcess(StandInProcess):
    """The stand-in for Xero. Its data is stored in the state directory."""

    def __init__(self, state: State, logs: Path, *, port: int) -> None:
        self.directory = _directory(state)
        arguments = ["ops.sandbox.xero.stand_in", "--state", str(self.directory / "xero.json")]
        super().__init__("sandbox xero", arguments, logs, port=port)

    def environment(self) -> dict[str, str]:
        """The settings that make Stint use this instead of Xero; they replace others."""
        return xero.environment(self.url) | {"XERO_FALLBACK_USER": FALLBACK_USER}

    async def prepare(self) -> None:
        """Marks the state as used with a sandbox. Raises CommandError when it is connected to a real organisation in Xero."""
        async with await connect(settings()) as conn:
            tenant_name = await conn.value(
                "SELECT tenant_name FROM xero_connection WHERE tenant_id IS NOT NULL AND tenant_id <> %s", (FIRST_TENANT_ID,)
            )
        if tenant_name is not None:
            raise CommandError(
                f"This Stint is connected to {tenant_name} in the real Xero, so it cannot be a sandbox: "
                "name another directory with --state, or leave --sandbox out."
            )
        self.directory.mkdir(mode=0o700, exist_ok=True)

    async def connect(self, api_url: str, token: str) -> None:
        """Connects Stint to it with the requests that an admin's browser would send. While Stint is busy, for example because
        `./stint demo` fills it, this tries again for BUSY_SECONDS. Raises CommandError."""
        await until(self.is_ready)
        ends = time.monotonic() + BUSY_SECONDS
        while not await self._connect(api_url, token, is_last=time.monotonic() > ends):  # noqa: ASYNC110 - Stint sends no event
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _connect(self, api_url: str, token: str, *, is_last: bool) -> bool:
        """False: Stint was busy, and this is not the last try."""
        try:
            async with httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS, headers={"Authorization": f"Bearer {token}"}) as stint:
                started = await stint.get(f"{api_url}/api/xero/auth-url")
                started.raise_for_status()
                back = await self._give_consent(started.json()["url"])
                connected = await stint.post(
                    f"{api_url}/api/xero/connect", json={name: back[name] for name in ("code", "state")}
                )
                connected.raise_for_status()
                return True
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 503 and not is_last:
                return False
            raise CommandError(f"Stint could not connect to its sandbox: {error.response.text}") from error
        except httpx2.HTTPError as error:
            raise CommandError(f"Stint could not connect to its sandbox: {error!r}. {self.last_lines()}") from error

    async def _give_consent(self, url: str) -> httpx2.QueryParams:
        """The query with which Xero would send the browser back."""
        async with httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS) as browser:
            answer = await browser.get(f"{url}&auto=1")
            if not answer.has_redirect_location:
                answer.raise_for_status()
            return httpx2.URL(answer.headers["Location"]).params


def _directory(state: State) -> Path:
    return state.directory / "sandbox"
