"""Pushes operations to POST /api/sync, and returns their results."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.answers import Json
from tests.support.given import Given, Person

SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"


def op(kind: str, base: int | None = None, op_id: str | None = None, **data: Any) -> Json:
    return {"opId": op_id or str(uuid4()), "kind": kind, "baseVersion": base, "data": data}


def pushed(by: Person, *operations: Json) -> list[Json]:
    """Pushes the operations, and returns their results."""
    results: list[Json] = by.post("/api/sync", {"operations": operations}, status=200)["results"]
    assert [result["opId"] for result in results] == [operation["opId"] for operation in operations]
    for operation, result in zip(operations, results, strict=True):
        assert ("mine" in result) == (result["outcome"] != "applied")
        assert result.get("mine", operation["data"]) == operation["data"]
        assert ("detail" in result) == (result["outcome"] != "applied")
    return results


def outcomes(results: list[Json]) -> list[str]:
    return [result["outcome"] for result in results]


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(kind: str, task: Json, timer_id: str, *times: str, base: int | None = None, **more: Any) -> Json:
    """The start or stop of a timer."""
    named = dict(zip(("startTime", "endTime"), times, strict=False))
    return op(kind, base, id=timer_id, taskId=task["id"], **named, **more)


def stopped(by: Person, entry_id: str, given: Given) -> tuple[str, str]:
    given.settled()
    entry = by.get(f"/api/time-entries/{entry_id}")
    return entry["startTime"], entry["endTime"]
