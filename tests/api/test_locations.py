"""201 says where the row is that it created."""

import secrets

from tests.support.given import Given


def test_a_created_row_is_at_its_location(given: Given) -> None:
    by = given.admin()
    customer, task = given.customer(by), given.task(by)
    channel = {"channelId": f"C{secrets.token_hex(5).upper()}", "channelName": "acme", "customerId": customer["id"]}
    start = {"taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "duration": 60, "allowOverlap": True}
    for path, body in (
        ("/api/customers", {"name": f"Acme {secrets.token_hex(4)}"}),
        (f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"}),
        ("/api/tasks", {"title": "Fix it", "customerId": customer["id"]}),
        ("/api/time-entries", start),
        ("/api/slack/channel-mappings", channel),
        (f"/api/customers/{customer['id']}/users/invite", {"email": f"{secrets.token_hex(5)}@acme.example", "name": "Jo"}),
    ):
        made = by.http.post(path, json=body)
        location = made.headers["location"]
        assert made.status_code == 201 and location == f"{path.removesuffix('/invite')}/{made.json()['id']}", path
        found = by.http.get(location)
        if found.status_code == 405:  # a row that only lists show
            assert "DELETE" in found.headers["allow"]
        else:
            assert found.json()["id"] == made.json()["id"]


def test_a_started_timer_is_at_its_users_location(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    started = by.http.post(f"/api/tasks/{task['id']}/start")
    assert (started.status_code, started.headers["location"]) == (201, f"/api/active-timers/{by.id}")
    assert by.http.get(started.headers["location"]).json()["id"] == started.json()["id"]
    again = by.http.post(f"/api/tasks/{task['id']}/start")
    assert again.status_code == 200 and "location" not in again.headers
    put = by.http.put("/api/active-timers/me", json={"taskId": other["id"]})
    assert (put.status_code, put.headers["location"]) == (201, f"/api/active-timers/{by.id}")
    changed = by.http.put("/api/active-timers/me", json={"taskId": other["id"], "notes": "x"})
    assert changed.status_code == 200 and "location" not in changed.headers


def test_a_repeated_create_has_the_same_location(given: Given) -> None:
    by = given.person()
    body = {"id": given.new_id(), "name": f"Acme {secrets.token_hex(4)}"}
    first, second = (by.http.post("/api/customers", json=body) for _ in range(2))
    assert first.headers["location"] == second.headers["location"] == f"/api/customers/{body['id']}"
