"""Creating, changing and listing tasks."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given
from tests.support.installation import Installation


def test_a_task_goes_to_general_support_unless_a_pillar_is_named(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    default = str(stint.value("SELECT id FROM pillars WHERE customer_id = %s", customer["id"]))
    task = given.task(by, customer)
    assert task["pillarId"] == default
    assert (task["status"], task["priority"], task["source"], task["createdBy"]) == ("open", "normal", "web", by.id)
    assert given.task(by, customer, pillarId=default)["pillarId"] == default
    assert by.get(f"/api/tasks/{task['id']}") == task


def test_a_created_task_has_all_fields_that_were_sent(given: Given) -> None:
    by = given.person()
    body: Json = {
        "title": "Fix it", "description": "soon\nand well", "status": "in_progress", "assigneeId": by.id, "priority": "urgent",
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


def test_an_update_writes_only_what_is_sent(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(by, description="soon", assigneeId=by.id, priority="high", dueDate="2026-12-24", source="desktop")
    for number, change in enumerate(
        [
            {"title": "Fixed"},
            {"description": ""},
            {"status": "in_progress"},
            {"priority": "low"},
            {"assigneeId": other.id},
            {"dueDate": "2027-01-31"},
            {"customerId": task["customerId"]},  # its present customer: it stays on its pillar
            {"pillarId": task["pillarId"]},
            {"title": "Fixed twice", "status": "done", "version": 9},
        ],
        start=2,
    ):
        changed = other.put(f"/api/tasks/{task['id']}", change)
        assert changed["updatedAt"] > task["updatedAt"]
        task = task | change | {"version": number, "updatedAt": changed["updatedAt"]}
        assert changed == task == by.get(f"/api/tasks/{task['id']}")


def test_null_clears_nullable_fields_and_is_ignored_elsewhere(given: Given) -> None:
    by = given.person()
    task = given.task(by, assigneeId=by.id, dueDate="2026-12-24")
    changed = by.put(f"/api/tasks/{task['id']}", {"assigneeId": None, "dueDate": None, "title": None, "status": None})
    assert changed == task | {"assigneeId": None, "dueDate": None, "version": 2, "updatedAt": changed["updatedAt"]}
    for nothing in ({}, {"version": 2}, {"title": None}, {"customerId": None, "description": None, "priority": None}):
        assert refused_fields(by.http.put(f"/api/tasks/{task['id']}", json=nothing)) == [""]
    assert by.get(f"/api/tasks/{task['id']}") == changed


def test_a_stale_version_is_409_with_the_current_task(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    changed = by.put(f"/api/tasks/{task['id']}", {"title": "Fixed", "version": 1})
    for version in (1, 3, 2**53):
        refused = problem(by.http.put(f"/api/tasks/{task['id']}", json={"title": "Mine", "version": version}), 409)
        assert refused["current"] == changed
    assert by.get(f"/api/tasks/{task['id']}") == changed


def test_of_twenty_parallel_updates_with_one_version_one_succeeds(given: Given) -> None:
    by = given.person()
    task = given.task(by)

    def update(number: int) -> int:
        return by.http.put(f"/api/tasks/{task['id']}", json={"title": f"Number {number}", "version": 1}).status_code

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(update, range(20))) == [200] + [409] * 19


def test_an_update_with_an_unknown_id_is_422_and_writes_nothing(given: Given, stint: Installation) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    for change, field in (
        ({"customerId": given.new_id()}, "customerId"),
        ({"pillarId": given.new_id()}, "pillarId"),
        ({"pillarId": other["pillarId"]}, "pillarId"),  # another customer's
        ({"customerId": other["customerId"], "pillarId": task["pillarId"]}, "pillarId"),
        ({"assigneeId": given.new_id()}, "assigneeId"),
    ):
        answer = by.http.put(f"/api/tasks/{task['id']}", json={"title": "Fixed"} | change)
        assert refused_fields(answer) == [field], change
    assert by.get(f"/api/tasks/{task['id']}") == task
    problem(by.http.put(f"/api/tasks/{given.new_id()}", json={"title": "Fixed"}), 404)
    assert stint.value("SELECT count(*) FROM messages WHERE body->>'task_id' = %s", task["id"]) == 0


def test_a_deleted_task_is_unknown_to_everybody(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    with stint.sql() as conn:
        conn.execute("UPDATE tasks SET deleted_at = now() WHERE id = %s", (task["id"],))
    problem(by.http.get(f"/api/tasks/{task['id']}"), 404)
    problem(by.http.put(f"/api/tasks/{task['id']}", json={"title": "Fixed"}), 404)
    problem(by.http.post(f"/api/tasks/{task['id']}/start"), 404)
    assert refused_fields(admin.http.put("/api/active-timers/me", json={"taskId": task["id"]})) == ["taskId"]
    body = {"taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "duration": 60}
    assert refused_fields(by.http.post("/api/time-entries", json=body)) == ["taskId"]
    assert refused_fields(by.http.post("/api/tasks", json={"title": "A", "customerId": given.new_id()})) == ["customerId"]


def test_only_internal_users_update_tasks(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    for role in ("customer_admin", "customer_user"):
        problem(given.person(role, task["customerId"]).http.put(f"/api/tasks/{task['id']}", json={"title": "Mine"}), 403)
    assert by.get(f"/api/tasks/{task['id']}") == task


def test_filters_of_tasks(given: Given) -> None:
    by, other = given.people(2)
    name = f"Größe & Söhne 100% {given.new_id()}"
    customer = given.customer(by, name=name)
    mine = given.task(by, customer, assigneeId=by.id)["id"]
    done = given.task(by, customer, assigneeId=other.id, status="done")["id"]
    elsewhere = given.task(by, assigneeId=by.id, status="done")["id"]

    def found(**parameters: str) -> set[str]:
        return {item["id"] for item in by.http.get("/api/tasks?limit=1000", params=parameters).json()["items"]}

    assert found(customer=name.upper().replace("SS", "ß")) == found(customerId=customer["id"]) == {mine, done}
    assert found(customer=customer["id"].upper()) == {mine, done}
    assert found(customer=name, status="done") == {done}
    assert found(customer=name, userId=by.id) == {mine}
    assert found(userId=by.id) == {mine, elsewhere}
    assert found(userId=by.id, status="done") == {elsewhere}
    assert found(customer="nobody") == found(userId=by.id, status="archived") == found(customerId=given.new_id()) == set()
    assert {done, elsewhere} <= found(status="done") and mine not in found(status="done")


def test_tasks_can_be_assigned_to_internal_users_only(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    task = given.task(by, customer)
    theirs = given.person("customer_admin", customer["id"])
    new = {"title": "Theirs", "customerId": customer["id"], "assigneeId": theirs.id}
    assert refused_fields(by.http.post("/api/tasks", json=new)) == ["assigneeId"]
    assert refused_fields(by.http.put(f"/api/tasks/{task['id']}", json={"assigneeId": theirs.id})) == ["assigneeId"]
    assert refused_fields(by.http.put(f"/api/tasks/{task['id']}", json={"assigneeId": given.new_id()})) == ["assigneeId"]
