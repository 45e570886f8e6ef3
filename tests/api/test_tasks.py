"""Tasks."""

from tests.api.answers import Json, problem, refused_fields
from tests.given import Given
from tests.installation import Installation


def test_a_task_goes_to_general_support_unless_a_pillar_is_named(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    default = str(stint.value("SELECT id FROM pillars WHERE customer_id = %s", customer["id"]))
    task = given.task(by, customer)
    assert task["pillarId"] == default
    assert (task["status"], task["priority"], task["source"], task["createdBy"]) == ("open", "normal", "web", by.id)
    assert given.task(by, customer, pillarId=default)["pillarId"] == default
    assert by.get(f"/api/tasks/{task['id']}") == task


def test_a_task_keeps_everything_that_it_was_given(given: Given) -> None:
    by = given.person()
    body: Json = {
        "title": "Mend it", "description": "soon\nand well", "status": "in_progress", "assigneeId": by.id, "priority": "urgent",
        "dueDate": "2026-12-24", "source": "desktop",
    }  # fmt: skip
    task = given.task(by, **body)
    assert {name: task[name] for name in body} == body


def test_a_pillar_of_another_customer_is_refused(given: Given, stint: Installation) -> None:
    by = given.person()
    own, other = given.customer(by), given.customer(by)
    others = str(stint.value("SELECT id FROM pillars WHERE customer_id = %s", other["id"]))
    for pillar in (others, given.new_id()):
        answer = by.http.post("/api/tasks", json={"title": "A", "customerId": own["id"], "pillarId": pillar})
        assert refused_fields(answer) == ["pillarId"]


def test_an_unknown_customer_or_assignee_is_refused(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    assert refused_fields(by.http.post("/api/tasks", json={"title": "A", "customerId": given.new_id()})) == ["customerId"]
    body = {"title": "A", "customerId": customer["id"], "assigneeId": given.new_id()}
    assert refused_fields(by.http.post("/api/tasks", json=body)) == ["assigneeId"]


def test_an_unknown_task_is_404(given: Given) -> None:
    by = given.person()
    problem(by.http.get(f"/api/tasks/{given.new_id()}"), 404)
    problem(by.http.post(f"/api/tasks/{given.new_id()}/start"), 404)
    problem(by.http.post(f"/api/tasks/{given.new_id()}/stop"), 404)


def test_an_archived_task_cannot_be_started(given: Given) -> None:
    by = given.person()
    problem(by.http.post(f"/api/tasks/{given.task(by, status='archived')['id']}/start"), 409)
