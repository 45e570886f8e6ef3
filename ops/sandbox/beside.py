"""The sandbox beside `./stint up`: stand-ins for Xero and Slack as two more parts, and Stint let in as a person would."""

import contextlib
import socket
from pathlib import Path

import httpx

from ops.errors import CommandError
from ops.processes import Program, until
from ops.sandbox import slack, xero
from ops.sandbox.xero_book import FIRST_TENANT_ID
from ops.state import State
from schemas.database import connect
from schemas.settings import settings

FALLBACK_USER = "sandbox@example.com"
_PATIENCE_SECONDS = 20


def check_without(state: State) -> None:
    """Raises CommandError when that state is a sandbox's: its bills would be said to be in Xero, and are in none."""
    if _directory(state).is_dir():
        raise CommandError(
            f"{state.directory} was used with a sandbox, and what it calls Xero is that: "
            "add --sandbox, or name another directory with --state."
        )


class Beside(Program):
    """A stand-in at a port of its own."""

    def __init__(self, name: str, arguments: list[str], logs: Path, *, port: int) -> None:
        super().__init__(name, [*arguments, "--port", str(port)], logs)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
            return self.is_running()
        return False


class SlackBeside(Beside):
    """The stand-in Slack, with a page to type commands into. What was said there is gone with it."""

    def __init__(self, logs: Path, *, port: int, api_url: str) -> None:
        super().__init__("sandbox slack", ["ops.sandbox.slack", "--app", api_url], logs, port=port)

    def environment(self) -> dict[str, str]:
        """The settings by which Stint takes this for Slack, whatever else was set."""
        return slack.environment(self.url)


class XeroBeside(Beside):
    """The stand-in Xero, which keeps what it knows with the rest of the state."""

    def __init__(self, state: State, logs: Path, *, port: int) -> None:
        self.directory = _directory(state)
        arguments = ["ops.sandbox.xero", "--state", str(self.directory / "xero.json")]
        super().__init__("sandbox xero", arguments, logs, port=port)

    def environment(self) -> dict[str, str]:
        """The settings by which Stint takes this for Xero, whatever else was set."""
        return xero.environment(self.url) | {"XERO_FALLBACK_USER": FALLBACK_USER}

    async def prepare(self) -> None:
        """Marks the state as a sandbox's. Raises CommandError when its database is connected to a real organisation."""
        async with await connect(settings()) as conn:
            cursor = await conn.execute(
                "SELECT tenant_name FROM xero_connection WHERE tenant_id IS NOT NULL AND tenant_id <> %s", (FIRST_TENANT_ID,)
            )
            if row := await cursor.fetchone():
                raise CommandError(
                    f"This Stint is connected to {row[0]} in Xero, so it is no place to play: "
                    "name another directory with --state, or leave --sandbox out."
                )
        self.directory.mkdir(mode=0o700, exist_ok=True)

    async def let_in(self, api_url: str, token: str) -> None:
        """Connects Stint to it, by the way that an admin and their browser would take. Raises CommandError."""
        await until(self.is_ready)
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS, headers={"Authorization": f"Bearer {token}"}) as stint:
                begun = await stint.get(f"{api_url}/api/xero/auth-url")
                begun.raise_for_status()
                back = await self._press_allow(begun.json()["url"])
                connected = await stint.post(
                    f"{api_url}/api/xero/connect", json={name: back[name] for name in ("code", "state")}
                )
                connected.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise CommandError(f"Stint could not connect to its sandbox: {error.response.text}") from error
        except httpx.HTTPError as error:
            raise CommandError(f"Stint could not connect to its sandbox: {error!r}. {self.last_lines()}") from error

    async def _press_allow(self, url: str) -> httpx.QueryParams:
        """What the browser would bring back."""
        async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS) as browser:
            answer = await browser.get(f"{url}&auto=1")
            if not answer.has_redirect_location:
                answer.raise_for_status()
            return httpx.URL(answer.headers["Location"]).params


def _directory(state: State) -> Path:
    return state.directory / "sandbox"
