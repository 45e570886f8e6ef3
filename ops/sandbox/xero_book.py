"""What the stand-in Xero knows, in the shapes of Xero's answers: organisations, projects, tasks, people, time, tokens."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.files import write_private

Json = dict[str, Any]

_ROOT = uuid.UUID("5a4d0b0c-0000-4000-8000-000000000000")  # ids in a fresh sandbox are always the same, for docs and tests
FIRST_TENANT = "Sandbox Ltd (not a real Xero)"
_KINDS = ("tenants", "connections", "projects", "tasks", "users", "entries", "codes", "refresh_tokens", "access_tokens")
_FIRST_PROJECTS = (("Support and maintenance", 120), ("Website relaunch", 140), ("Cloud migration", 160))
_FIRST_TASKS = (
    ("Consulting", "TIME"),
    ("Development", "TIME"),
    ("Internal", "NON_CHARGEABLE"),
    ("Setup at a fixed price", "FIXED"),
)
_FIRST_USERS = (("Ada Admin", "admin@example.com"), ("Sam Sandbox", "sandbox@example.com"))


class Book:
    """Everything by its id. With a file, each `save` keeps it there."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self.reset()
        if file is not None and file.exists():
            for kind, rows in json.loads(file.read_text()).items():
                setattr(self, kind, rows)

    def reset(self) -> None:
        """As on the first day: one organisation with three projects, two users, no time."""
        self.tenants: dict[str, Json] = {}
        self.connections: dict[str, Json] = {}
        self.projects: dict[str, Json] = {}
        self.tasks: dict[str, Json] = {}
        self.users: dict[str, Json] = {}
        self.entries: dict[str, Json] = {}
        self.codes: dict[str, Json] = {}
        self.refresh_tokens: dict[str, Json] = {}
        self.access_tokens: dict[str, Json] = {}
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

    def add_user(self, tenant_id: str, *, name: str, email: str) -> Json:
        user_id = _known_id("user", tenant_id, email)
        self.users[user_id] = {"tenant": tenant_id, "userId": user_id, "name": name, "email": email}
        return self.users[user_id]

    def minutes(self, of: Mapping[str, str], *, status: str | None = None) -> int:
        """Of all entries that agree with `of`."""
        return sum(
            entry["duration"]
            for entry in self.entries.values()
            if all(entry[name] == value for name, value in of.items()) and status in (None, entry["status"])
        )


def _known_id(*what: str) -> str:
    return str(uuid.uuid5(_ROOT, "/".join(what)))


FIRST_TENANT_ID = _known_id("tenant", FIRST_TENANT)


def utc(now: datetime | None = None) -> str:
    """A time as Xero writes it: in UTC, with seven digits behind the second."""
    return (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
