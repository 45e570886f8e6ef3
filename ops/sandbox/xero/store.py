"""The data of the stand-in for Xero, in the form of Xero's answers: organisations, projects, tasks, users, time, tokens."""

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.files import write_private

Json = dict[str, Any]

_ROOT = uuid.UUID("5a4d0b0c-0000-4000-8000-000000000000")  # the ids of a new sandbox are always the same, for docs and tests
FIRST_TENANT = "Sandbox Ltd (not a real Xero)"
_KINDS = ("tenants", "connections", "projects", "tasks", "users", "entries", "codes", "refresh_tokens", "access_tokens")
_FIRST_PROJECTS = (("Support and maintenance", 120), ("Website relaunch", 140), ("Cloud migration", 160))
_FIRST_TASKS = (
    ("Consulting", "TIME"),
    ("Development", "TIME"),
    ("Internal", "NON_CHARGEABLE"),
    ("Setup at a fixed price", "FIXED"),
)
_KEPT_SECONDS = 120  # how long a list can lag behind
_FIRST_USERS = (("Ada Admin", "admin@example.com"), ("Sam Sandbox", "sandbox@example.com"))


class Store:
    """All data by id. With a file, `save` writes it there."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self.reset()
        if file is not None and file.exists():
            for kind, rows in json.loads(file.read_text()).items():
                setattr(self, kind, rows)

    def reset(self) -> None:
        """Resets everything: one organisation with three projects, two users, no time."""
        self.tenants: dict[str, Json] = {}
        self.connections: dict[str, Json] = {}
        self.projects: dict[str, Json] = {}
        self.tasks: dict[str, Json] = {}
        self.users: dict[str, Json] = {}
        self.entries: dict[str, Json] = {}
        self.codes: dict[str, Json] = {}
        self.refresh_tokens: dict[str, Json] = {}
        self.access_tokens: dict[str, Json] = {}
        self._earlier: deque[tuple[float, str, Json | None]] = deque()  # what entries were before each change, and until when
        tenant_id = self.add_tenant(FIRST_TENANT)
        for name, email in _FIRST_USERS:
            self.add_user(tenant_id, name=name, email=email)
        for name, rate in _FIRST_PROJECTS:
            project_id = self.add_project(tenant_id, name)["projectId"]
            for task_name, charge_type in _FIRST_TASKS:
                self.add_task(project_id, task_name, charge_type=charge_type, rate=rate)

    def save(self) -> None:
        if self._file is not None:
            write_private(self._file, json.dumps({kind: getattr(self, kind) for kind in _KINDS}))

    def add_tenant(self, name: str) -> str:
        tenant_id = _known_id("tenant", name)
        self.tenants[tenant_id] = {"tenantId": tenant_id, "tenantName": name, "tenantType": "ORGANISATION"}
        return tenant_id

    def add_project(self, tenant_id: str, name: str) -> Json:
        project_id = _known_id("project", tenant_id, name)
        self.projects[project_id] = {
            "tenant": tenant_id,
            "projectId": project_id,
            "contactId": _known_id("contact", tenant_id, name),
            "name": name,
            "currencyCode": "EUR",
            "status": "INPROGRESS",
        }
        return self.projects[project_id]

    def add_task(self, project_id: str, name: str, *, charge_type: str = "TIME", rate: float = 100) -> Json:
        task_id = _known_id("task", project_id, name)
        self.tasks[task_id] = {
            "taskId": task_id,
            "name": name,
            "rate": {"currency": "EUR", "value": float(rate)},
            "chargeType": charge_type,
            "estimateMinutes": 0,
            "projectId": project_id,
            "status": "ACTIVE",
        }
        return self.tasks[task_id]

    def add_user(self, tenant_id: str, *, name: str, email: str, user_id: str | None = None) -> Json:
        user_id = user_id or _known_id("user", tenant_id, email)
        self.users[user_id] = {"tenant": tenant_id, "userId": user_id, "name": name, "email": email}
        return self.users[user_id]

    def write_entry(self, entry_id: str, entry: Json | None) -> None:
        """Creates the entry, replaces it, or with None deletes it."""
        now = time.time()
        while self._earlier and self._earlier[0][0] < now - _KEPT_SECONDS:
            self._earlier.popleft()
        self._earlier.append((now, entry_id, self.entries.get(entry_id)))
        if entry is None:
            del self.entries[entry_id]
        else:
            self.entries[entry_id] = entry

    def entries_before(self, seconds_of: Callable[[str], float]) -> list[Json]:
        """The entries as a list shows them that lags behind: each as it was that many seconds ago, by its id."""
        now, entries = time.time(), dict(self.entries)
        for until, entry_id, entry in reversed(self._earlier):
            if until <= now - seconds_of(entry_id):
                continue
            if entry is None:
                entries.pop(entry_id, None)
            else:
                entries[entry_id] = entry
        return list(entries.values())

    def minutes(self, of: Mapping[str, str], *, status: str | None = None) -> int:
        """The sum of the minutes of all entries with the values of `of`."""
        return sum(
            entry["duration"]
            for entry in self.entries.values()
            if all(entry[name] == value for name, value in of.items()) and status in (None, entry["status"])
        )


def _known_id(*what: str) -> str:
    return str(uuid.uuid5(_ROOT, "/".join(what)))


FIRST_TENANT_ID = _known_id("tenant", FIRST_TENANT)


def utc(now: datetime | None = None) -> str:
    """A time in Xero's format: UTC, with seven digits after the second."""
    return (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
