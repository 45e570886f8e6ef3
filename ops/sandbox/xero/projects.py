"""The stand-in's version of Xero's Projects API: projects, their tasks and users, and time entries with their rules."""

import math
import random
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ops.sandbox.http import Request, Response
from ops.sandbox.xero.store import Json, Store, utc

BASE = "/projects.xro/2.0"
_LONGEST_MINUTES = 59940
_ROUTE = re.compile(
    rf"{BASE}/(?:(?P<users>ProjectsUsers)|Projects(?:/(?P<project>[^/]+)(?:/(?P<part>Tasks|Time)(?:/(?P<item>[^/]+))?)?)?)"
)


class _Refused(Exception):
    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Projects:
    """Reads and writes the store for one organisation at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.list_lag_seconds = (0.0, 0.0)  # a list shows each change to an entry only after a time between these

    def _lag_of(self, entry_id: str) -> float:
        """The same for all changes to one entry, so that a list never shows them in another order."""
        shortest, longest = self.list_lag_seconds
        return random.Random(entry_id).uniform(shortest, longest)  # noqa: S311 - to be repeatable

    def answer(self, request: Request, tenant_id: str) -> Response:
        route = _ROUTE.fullmatch(request.path)
        if route is None:
            return _not_found()
        try:
            return self._route(request, tenant_id, route)
        except _Refused as refused:
            return refused.answer

    def _route(self, request: Request, tenant_id: str, route: re.Match[str]) -> Response:
        project = self._project(route["project"], tenant_id) if route["project"] else None
        match request.method, route["part"], route["item"]:
            case "GET", None, None if route["users"]:
                users = [u for u in self.store.users.values() if u["tenant"] == tenant_id and not u.get("removed")]
                return _page([_public(user) for user in users], request)
            case "GET", None, None if project is None:
                return self._list_projects(request, tenant_id)
            case "GET", None, None if project is not None:
                return Response.json(200, self._with_sums(project))
            case "GET", "Tasks", None if project is not None:
                return self._list_tasks(request, project)
            case "GET", "Tasks", item if project is not None:
                return Response.json(200, self._task_with_sums(self._task(item, project)))
            case "GET", "Time", None if project is not None:
                return self._list_time(request, project)
            case "POST", "Time", None if project is not None:
                return self._create_time(request, project)
            case method, "Time", item if project is not None and item is not None:
                return self._one_time(method, request, project, item)
        return Response(405)

    def _list_projects(self, request: Request, tenant_id: str) -> Response:
        projects = [p for p in self.store.projects.values() if p["tenant"] == tenant_id]
        if states := _split_list(request, "states"):
            projects = [project for project in projects if project["status"] in states]
        if ids := _split_list(request, "projectIds"):
            projects = [project for project in projects if project["projectId"] in ids]
        if contact := request.query.get("contactID"):
            projects = [project for project in projects if project["contactId"] == contact]
        return _page([self._with_sums(project) for project in projects], request)

    def _list_tasks(self, request: Request, project: Json) -> Response:
        tasks = [task for task in self.store.tasks.values() if task["projectId"] == project["projectId"]]
        if ids := _split_list(request, "taskIds"):
            tasks = [task for task in tasks if task["taskId"] in ids]
        if charge_type := request.query.get("chargeType"):
            tasks = [task for task in tasks if task["chargeType"] == charge_type]
        return _page([self._task_with_sums(task) for task in tasks], request)

    def _list_time(self, request: Request, project: Json) -> Response:
        query = request.query
        states, chargeable = _split_list(request, "states"), query.get("isChargeable")
        after, before = (_day_or_refuse(query, name) for name in ("dateAfterUtc", "dateBeforeUtc"))

        def matches(entry: Json) -> bool:
            at = _time(entry["dateUtc"])
            charge_type = self.store.tasks[entry["taskId"]]["chargeType"]
            return (
                entry["projectId"] == project["projectId"]
                and query.get("userId") in (None, entry["userId"])
                and query.get("taskId") in (None, entry["taskId"])
                and query.get("contactId") in (None, project["contactId"])
                and "invoiceId" not in query  # nothing is invoiced by number here
                and (not states or entry["status"] in states)
                and (chargeable is None or (charge_type != "NON_CHARGEABLE") == (chargeable.lower() == "true"))
                and (after is None or (at is not None and at >= after))
                and (before is None or (at is not None and at <= before))
            )

        found = [entry for entry in self.store.entries_before(self._lag_of) if matches(entry)]
        return _page(sorted(found, key=lambda entry: (entry["dateUtc"], entry["dateEnteredUtc"]), reverse=True), request)

    def _create_time(self, request: Request, project: Json) -> Response:
        if project["status"] == "CLOSED":
            raise _Refused(_invalid({"project": "Time cannot be added to a closed project"}))
        entry = {
            "timeEntryId": str(uuid.uuid4()),
            "projectId": project["projectId"],
            **self._valid_time(request, project),
            "dateEnteredUtc": utc(),
            "status": "ACTIVE",
        }
        self.store.write_entry(entry["timeEntryId"], entry)
        return Response.json(200, entry)

    def _one_time(self, method: str, request: Request, project: Json, entry_id: str) -> Response:
        entry = self.store.entries.get(_id_or_refuse(entry_id))
        if entry is None or entry["projectId"] != project["projectId"]:
            return _not_found()
        if method == "GET":
            return Response.json(200, entry)
        if method not in ("PUT", "DELETE"):
            return Response(405)
        if entry["status"] != "ACTIVE":
            return _invalid({"status": f"A time entry that is {entry['status']} cannot be changed"})
        if method == "DELETE":
            self.store.write_entry(entry_id, None)
        else:
            self.store.write_entry(entry_id, entry | self._valid_time(request, project))
        return Response(204)

    def _valid_time(self, request: Request, project: Json) -> Json:
        """All fields of an entry from a body; a missing one becomes null. Refuses what Xero refuses."""
        body = request.json()
        if not isinstance(body, dict):
            raise _Refused(_invalid({"body": "A JSON object is expected"}))
        task = self.store.tasks.get(str(body.get("taskId")))
        task = task if task and task["projectId"] == project["projectId"] else None
        user = self.store.users.get(str(body.get("userId")))
        minutes = body.get("duration")
        problems = {}
        if user is None or user["tenant"] != project["tenant"]:
            problems["userId"] = "The user is not one of this organisation's"
        elif user.get("removed"):
            problems["userId"] = "The user is not a project user"
        if task is None:
            problems["taskId"] = "The task is not one of this project's"
        elif task["chargeType"] == "FIXED":
            problems["taskId"] = "Time cannot be logged on a task with a fixed price"
        elif task["status"] != "ACTIVE":
            problems["taskId"] = f"The task is {task['status']}"
        if _time(body.get("dateUtc")) is None:
            problems["dateUtc"] = "A UTC date and time in ISO 8601 is expected"
        if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= _LONGEST_MINUTES:
            problems["duration"] = f"A whole number of minutes from 1 to {_LONGEST_MINUTES} is expected"
        if not isinstance(body.get("description"), str | None):
            problems["description"] = "A text is expected"
        if problems:
            raise _Refused(_invalid(problems))
        return {name: body.get(name) for name in ("userId", "taskId", "dateUtc", "duration", "description")}

    def _project(self, project_id: str, tenant_id: str) -> Json:
        project = self.store.projects.get(_id_or_refuse(project_id))
        if project is None or project["tenant"] != tenant_id:
            raise _Refused(_not_found())
        return project

    def _task(self, task_id: str, project: Json) -> Json:
        task = self.store.tasks.get(_id_or_refuse(task_id))
        if task is None or task["projectId"] != project["projectId"]:
            raise _Refused(_not_found())
        return task

    def _with_sums(self, project: Json) -> Json:
        of = {"projectId": project["projectId"]}
        minutes, invoiced = self.store.minutes(of), self.store.minutes(of, status="INVOICED")
        return _public(project) | {"minutesLogged": minutes, "minutesToBeInvoiced": minutes - invoiced}

    def _task_with_sums(self, task: Json) -> Json:
        of = {"taskId": task["taskId"]}
        minutes, invoiced = self.store.minutes(of), self.store.minutes(of, status="INVOICED")
        outside = {"fixedMinutes": 0, "nonChargeableMinutes": minutes if task["chargeType"] == "NON_CHARGEABLE" else 0}
        return (
            task | {"totalMinutes": minutes, "minutesInvoiced": invoiced, "minutesToBeInvoiced": minutes - invoiced} | outside
        )


def _page(items: list[Json], request: Request) -> Response:
    """The requested page, with 50 items by default. It is empty after the last one."""
    page, size = _number(request, "page", 1, math.inf), _number(request, "pageSize", 50, 500)
    pagination = {"page": page, "pageSize": size, "pageCount": math.ceil(len(items) / size), "itemCount": len(items)}
    return Response.json(200, {"pagination": pagination, "items": items[(page - 1) * size : page * size]})


def _number(request: Request, name: str, default: int, largest: float) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= largest:
        raise _Refused(_invalid({name: "A number greater than 0, and not above 500 for pageSize, is expected"}))
    return int(text)


def _split_list(request: Request, name: str) -> list[str]:
    return [part for part in request.query.get(name, "").split(",") if part]


def _day_or_refuse(query: Mapping[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    day = _time(query[name])
    if day is None:
        raise _Refused(_invalid({name: "A UTC date in ISO 8601 is expected"}))
    return day


def _id_or_refuse(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise _Refused(_invalid({"id": f"The value '{text}' is not valid"})) from None


def _time(value: Any) -> datetime | None:
    """The time in UTC, or None for an invalid time or one without a zone."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def _public(row: Json) -> Json:
    return {name: value for name, value in row.items() if name != "tenant"}


def _invalid(problems: Mapping[str, str]) -> Response:
    model_state: dict[str, Iterable[str]] = {name: [text] for name, text in problems.items()}
    return Response.json(400, {"message": "The request is invalid.", "modelState": model_state})


def _not_found() -> Response:
    return Response.json(404, {"message": "The resource you're looking for cannot be found"})
