"""The stand-in Xero for tests: a process, and methods that tell it what to do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from ops.sandbox.xero.stand_in import environment
from tests.support.fork_server import Process
from tests.support.installation import eventually, free_port, start_stand_in

Json = dict[str, Any]


class XeroSandbox:
    """A stand-in Xero that runs as a process of its own."""

    def __init__(self, *, state: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._state = ["--state", str(state)] if state else []
        self._http = httpx2.Client(base_url=self.url, timeout=10)
        self._process: Process | None = None

    def start(self) -> "XeroSandbox":
        self._process = start_stand_in(["ops.sandbox.xero.stand_in", "--port", str(self.port), *self._state])
        eventually(self._answers, why="the stand-in Xero answers")
        return self

    def stop(self) -> None:
        self._http.close()
        self._end()

    def restart(self) -> None:
        """Stops and starts the process; without a state file all its data is lost."""
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
        except httpx2.HTTPError:
            return False

    @property
    def environment(self) -> dict[str, str]:
        """The settings of an installation that uses this as Xero."""
        return environment(self.url)

    # its data

    def entries(self) -> list[Json]:
        """All time entries, in the order in which they were created."""
        found: list[Json] = self._send("GET", "entries")
        return found

    def calls(self, path: str = "", method: str | None = None) -> list[Json]:
        """Every call whose path contains `path`: {n, at, endAt, method, path, query, account, status, key, fault}."""
        found: list[Json] = self._send("GET", "calls")
        return [call for call in found if path in call["path"] and method in (None, call["method"])]

    def forget_calls(self) -> None:
        self._send("DELETE", "calls")

    # faults and settings

    def inject_fault(self, kind: str, *, path: str = "", method: str | None = None, **how: Any) -> None:
        """Sets one rule of `ops/sandbox/faults.py` and removes all others: `xero.inject_fault("drop_after", method="POST",
        count=1)`."""
        self.inject_faults({"kind": kind, "path": path, "method": method, **how})

    def inject_faults(self, *rules: Json) -> None:
        self._send("PUT", "faults", {"rules": rules})

    def inject_random_faults(
        self, *, probability: float = 0.3, seed: int = 1, seconds: float = 1, late_seconds: float | None = None, path: str = ""
    ) -> None:
        """Makes that share of all answers faulty, with all kinds of faults. `late_seconds`: late requests are late by up to
        this, instead of `seconds`."""
        self.inject_fault("any", probability=probability, seed=seed, seconds=seconds, lateSeconds=late_seconds, path=path)

    def clear_faults(self) -> None:
        """Removes all faults."""
        self.inject_faults()

    def configure(self, **settings: Any) -> None:
        """concurrent, minute, day (None: no limit), accessSeconds, graceSeconds, idempotencySeconds, latencySeconds,
        clientSecret; listLagSeconds: [shortest, longest]."""
        self._send("PUT", "settings", settings)

    def disable_limits(self) -> None:
        self.configure(concurrent=None, minute=None, day=None)

    # what people do in Xero

    def authorize(self, redirect_uri: str) -> str:
        """Gives consent as a person would, and returns the code."""
        code: str = self._send("POST", "codes", {"redirectUri": redirect_uri})["code"]
        return code

    def project(self, name: str, **more: Any) -> Json:
        made: Json = self._send("POST", "projects", {"name": name, **more})
        return made

    def tenant(self, name: str) -> str:
        """One more organisation; its id."""
        tenant_id: str = self._send("POST", "tenants", {"name": name})["tenantId"]
        return tenant_id

    def task(self, project: Json, name: str = "Consulting", **more: Any) -> Json:
        made: Json = self._send("POST", f"projects/{project['projectId']}/tasks", {"name": name, **more})
        return made

    def user(self, email: str, name: str = "Somebody", **more: Any) -> Json:
        made: Json = self._send("POST", "users", {"name": name, "email": email, **more})
        return made

    def change_entry(self, entry_id: str, **fields: Any) -> None:
        """Changes an entry as a person would: `xero.change_entry(id, status="INVOICED")`."""
        self._send("PATCH", f"entries/{entry_id}", fields)

    def copy_entry(self, entry: Json, **fields: Any) -> Json:
        """Creates an entry by hand: a copy of this one with other fields."""
        made: Json = self._send("POST", "entries", entry | fields)
        return made

    def delete_entry(self, entry_id: str) -> None:
        self._send("DELETE", f"entries/{entry_id}")

    def close_project(self, project: Json) -> None:
        self._send("PATCH", f"projects/{project['projectId']}", {"status": "CLOSED"})

    def unlink(self) -> None:
        """Disconnects the app as a person does it within Xero: its tokens stay valid, and give no access."""
        self._send("POST", "unlink", {})

    def set_problem(self, kind: str | None) -> None:
        """Every organisation is "not_provisioned" (no Xero Projects), has "lost_scopes", is "offline", or is well (None)."""
        self._send("PUT", "problem", {"kind": kind})

    def remove_user(self, user: Json) -> None:
        """Removes a user from Xero Projects, as a person would."""
        self._send("DELETE", f"users/{user['userId']}")

    def change_project(self, project: Json, **fields: Any) -> None:
        self._send("PATCH", f"projects/{project['projectId']}", fields)

    def change_task(self, task: Json, **fields: Any) -> None:
        self._send("PATCH", f"tasks/{task['taskId']}", fields)

    def disconnect(self) -> None:
        """Revokes all tokens: neither is valid any more."""
        self._send("POST", "disconnect")

    def expire_tokens(self) -> None:
        """Expires every access token; refresh tokens stay valid."""
        self._send("POST", "expire")

    def reset(self) -> None:
        """Deletes all data, tokens and faults, and sets Xero's own limits."""
        self._send("DELETE", "")

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/sandbox/{path}".rstrip("/"), json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
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
    """The largest number of concurrent calls."""
    steps = sorted(step for call in calls for step in ((call["at"], 1), (call["endAt"] or call["at"], -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


@contextmanager
def running_xero(**more: Any) -> Iterator[XeroSandbox]:
    """A stand-in Xero that runs while the block does."""
    sandbox = XeroSandbox(**more)
    try:
        yield sandbox.start()
    finally:
        sandbox.stop()
