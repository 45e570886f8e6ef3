"""POST /api/sync with random operations, made of real ids and random values."""

import json

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as generated
from hypothesis import strategies as st

from tests.support.given import Given
from tests.support.sizes import examples
from tests.sync.pushing import SOMEONE, ago, op

NAMES = ["id", "taskId", "startTime", "endTime", "duration", "notes", "append", "title", "customerId", "pillarId", "version",
         "status", "priority", "dueDate", "assigneeId", "userId", "allowOverlap", "source", "description", "x"]  # fmt: skip
JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just([]) | st.just({})
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.sampled_from([SOMEONE, ago(5), ago(50), "2026-03-02", "9000-12-31T23:59:59Z", "1900-01-01T00:00:00Z", "a" * 10_001,
                       "open", "archived", "low", "desktop", 10**400, 2**63, 60, 1])
)  # fmt: skip
KIND_NAMES = ["task.put", "timer.start", "timer.stop", "entry.put", "entry.patch", "entry.notes", "entry.delete", "", "x"]


@generated(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_random_operations_never_cause_a_server_error(data: st.DataObject, rows: "Rows") -> None:
    """Each example has twenty operations made of real ids and random values."""
    real = st.sampled_from([rows.task["id"], rows.entry["id"], rows.others["id"], rows.task["customerId"], rows.timer])
    operations = []
    for _ in range(20):
        kind = data.draw(st.sampled_from(KIND_NAMES))
        body = data.draw(st.dictionaries(st.sampled_from(NAMES), JUNK | real, max_size=8))
        body |= data.draw(st.fixed_dictionaries({}, optional={"id": real, "taskId": st.just(rows.task["id"])}))
        operations.append(op(kind, data.draw(st.none() | st.integers(1, 5))) | {"data": body})
    answer = rows.by.http.post("/api/sync", content=json.dumps({"operations": operations}),
                                headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 200, answer.text
    for result in answer.json()["results"]:
        assert result["outcome"] in ("applied", "conflict", "rejected")
        assert result["outcome"] == "applied" or result["detail"]


class Rows:
    """Rows whose ids the random operations use."""

    def __init__(self, given: Given) -> None:
        self.by, other = given.people(2)
        self.task = given.task(self.by)
        self.entry, self.others = given.logged(self.by, self.task), given.logged(other)
        self.timer = self.by.post(f"/api/tasks/{self.task['id']}/start")["id"]


@pytest.fixture
def rows(given: Given) -> Rows:
    return Rows(given)
