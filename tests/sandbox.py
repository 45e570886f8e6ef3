"""The stand-in Xero as tests use it: started as a process, and given orders in the words of the domain."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ops.sandbox.xero import environment
from tests.installation import CHECKOUT, eventually, free_port

Json = dict[str, Any]


class XeroSandbox:
    """A stand-in Xero of the test's own."""

    def __init__(self, *, state: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._state = ["--state", str(state)] if state else []
        self._http = httpx.Client(base_url=self.url, timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "XeroSandbox":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ops.sandbox.xero", "--port", str(self.port), *self._state], cwd=CHECKOUT
        )
        eventually(self._answers, why="the stand-in Xero answers")
        return self

    def stop(self) -> None:
        self._http.close()
        self._end()

    def restart(self) -> None:
        """Ends and starts it; without a state file it has forgotten everything."""
        self._end()
        self.start()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the stand-in Xero has ended"
        try:
            return self._http.get("/health").status_code == 204
        except httpx.HTTPError:
            return False

    @property
    def environment(self) -> dict[str, str]:
        """The settings of an installation that takes this for Xero."""
        return environment(self.url)

    # what is there

    def entries(self) -> list[Json]:
        """All time entries, in the order in which they came."""
        found: list[Json] = self._order("GET", "entries")
        return found

    def calls(self, path: str = "", method: str | None = None) -> list[Json]:
        """Every call whose path holds `path`: {n, at, endAt, method, path, query, account, status, key, fault}."""
        found: list[Json] = self._order("GET", "calls")
        return [call for call in found if path in call["path"] and method in (None, call["method"])]

    def forget_calls(self) -> None:
        self._order("DELETE", "calls")

    # how it behaves

    def fails(self, kind: str, *, path: str = "", method: str | None = None, **how: Any) -> None:
        """One rule of `ops/sandbox/faults.py` instead of all others: `xero.fails("drop_after", method="POST", count=1)`."""
        self.fails_by({"kind": kind, "path": path, "method": method, **how})

    def fails_by(self, *rules: Json) -> None:
        self._order("PUT", "faults", {"rules": rules})

    def storms(self, *, probability: float = 0.3, seed: int = 1, seconds: float = 1, path: str = "") -> None:
        """That share of all answers is faulty, in every way there is."""
        self.fails("any", probability=probability, seed=seed, seconds=seconds, path=path)

    def recovers(self) -> None:
        """No faults any more."""
        self.fails_by()

    def sets(self, **settings: Any) -> None:
        """concurrent, minute, day (None: no limit), accessSeconds, graceSeconds, idempotencySeconds, latencySeconds."""
        self._order("PUT", "settings", settings)

    def without_limits(self) -> None:
        self.sets(concurrent=None, minute=None, day=None)

    # what people do in Xero

    def allows(self, redirect_uri: str) -> str:
        """Somebody presses Allow: the code that comes back."""
        code: str = self._order("POST", "codes", {"redirectUri": redirect_uri})["code"]
        return code

    def project(self, name: str, **more: Any) -> Json:
        made: Json = self._order("POST", "projects", {"name": name, **more})
        return made

    def task(self, project: Json, name: str = "Consulting", **more: Any) -> Json:
        made: Json = self._order("POST", f"projects/{project['projectId']}/tasks", {"name": name, **more})
        return made

    def user(self, email: str, name: str = "Somebody", **more: Any) -> Json:
        made: Json = self._order("POST", "users", {"name": name, "email": email, **more})
        return made

    def changes(self, entry_id: str, **fields: Any) -> None:
        """Somebody changes an entry: `xero.changes(id, status="INVOICED")`."""
        self._order("PATCH", f"entries/{entry_id}", fields)

    def deletes(self, entry_id: str) -> None:
        self._order("DELETE", f"entries/{entry_id}")

    def closes(self, project: Json) -> None:
        self._order("PATCH", f"projects/{project['projectId']}", {"status": "CLOSED"})

    def disconnects(self) -> None:
        """Somebody disconnects the app: its tokens are worth nothing now."""
        self._order("POST", "disconnect")

    def expires_tokens(self) -> None:
        """Every access token has expired; refresh tokens work."""
        self._order("POST", "expire")

    def begins_anew(self) -> None:
        """Everything as on the first day: no time, no tokens, no faults, Xero's own limits."""
        self._order("DELETE", "")

    def _order(self, method: str, what: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/sandbox/{what}".rstrip("/"), json=body)
        assert answer.is_success, f"{method} {what}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


def most_in_a_minute(calls: Iterable[Json], seconds: float = 60) -> int:
    """The largest number of calls in any sliding minute."""
    times = sorted(call["at"] for call in calls)
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_at_once(calls: Iterable[Json]) -> int:
    """The largest number of calls that were going on at one moment."""
    steps = sorted(step for call in calls for step in ((call["at"], 1), (call["endAt"] or call["at"], -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


@contextmanager
def a_xero(**more: Any) -> Iterator[XeroSandbox]:
    """A stand-in for as long as the block lasts."""
    sandbox = XeroSandbox(**more)
    try:
        yield sandbox.start()
    finally:
        sandbox.stop()
