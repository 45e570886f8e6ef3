"""A mapping is checked in Xero when it is written: refused with the reason, or accepted with a warning when Xero is away."""

import json
from typing import Any

import httpx2
import pytest

from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Json

UNKNOWN = "6f0e3c9a-2f3b-4a55-9d3e-0a1b2c3d4e5f"


def put_customer(firm: Firm, status: int = 200, **body: Any) -> httpx2.Response:
    answer = firm.admin.http.put(f"/api/customers/{firm.customer['id']}", json=body)
    assert answer.status_code == status, answer.text
    return answer


def put_pillar(firm: Firm, task_id: str | None, status: int = 200) -> httpx2.Response:
    path = f"/api/customers/{firm.customer['id']}/pillars/{firm.task['pillarId']}"
    answer = firm.admin.http.put(path, json={"xeroTaskId": task_id})
    assert answer.status_code == status, answer.text
    return answer


def faults(answer: httpx2.Response) -> dict[str, str]:
    return {fault["path"]: fault["message"] for fault in problem(answer, 422)["errors"]}


def read_customer(firm: Firm) -> Json:
    found: Json = firm.admin.get(f"/api/customers/{firm.customer['id']}")
    return found


@pytest.mark.parametrize("wrong", ["unknown", "no id", "closed", "of another organisation"])
def test_a_project_that_takes_no_time_is_refused_with_the_reason(wrong: str, firm: Firm) -> None:
    project_id = {"unknown": UNKNOWN, "no id": "x/y?z"}.get(wrong)
    if wrong == "closed":
        project = firm.xero.project("Done")
        firm.xero.close_project(project)
        project_id = project["projectId"]
    if wrong == "of another organisation":
        tenant = firm.xero.tenant("Third Ltd")
        project_id = firm.xero.project("Elsewhere", tenantId=tenant)["projectId"]

    refused = put_customer(firm, 422, xeroProjectId=project_id)

    assert ("CLOSED" if wrong == "closed" else "no project") in faults(refused)["xeroProjectId"]
    assert read_customer(firm)["xeroProjectId"] == firm.project["projectId"]
    created = firm.admin.http.post("/api/customers", json={"name": "New Ltd", "xeroProjectId": project_id})
    assert "xeroProjectId" in faults(created)


@pytest.mark.parametrize(("change", "reason"), [
    ({"chargeType": "FIXED"}, "fixed price"), ({"status": "LOCKED"}, "LOCKED"), ({"status": "INVOICED"}, "INVOICED"),
    ({"projectId": UNKNOWN}, "no task"),
])  # fmt: skip
def test_a_task_that_takes_no_time_is_refused_with_the_reason(change: Json, reason: str, firm: Firm) -> None:
    task = firm.xero.task(firm.project, "Another")
    firm.xero.change_task(task, **change)
    assert reason in faults(put_pillar(firm, task["taskId"], 422))["xeroTaskId"]
    path = f"/api/customers/{firm.customer['id']}/pillars"
    body = {"name": "Hosting", "xeroTaskId": task["taskId"]}
    assert reason in faults(firm.admin.http.post(path, json=body))["xeroTaskId"]
    firm.xero.change_task(task, chargeType="TIME", status="ACTIVE", projectId=firm.project["projectId"])
    assert "Warning" not in put_pillar(firm, task["taskId"]).headers
    assert "Warning" not in firm.admin.http.post(path, json=body).headers


def test_customer_and_pillars_are_mapped_in_one_request_or_not_at_all(firm: Firm) -> None:
    project = firm.xero.project(f"Next project of {firm.by.email}")
    task = firm.xero.task(project)
    path = f"/api/customers/{firm.customer['id']}/pillars"
    other = firm.admin.post(path, {"name": "Hosting"})
    before = [read_customer(firm), firm.admin.get(path)["items"]]

    pillars = [{"id": firm.task["pillarId"], "xeroTaskId": task["taskId"]}, {"id": other["id"], "xeroTaskId": UNKNOWN}]
    refused = put_customer(firm, 422, xeroProjectId=project["projectId"], pillars=pillars)
    assert "no task" in faults(refused)["pillars.1.xeroTaskId"]
    put_customer(firm, 404, xeroProjectId=project["projectId"], pillars=[{"id": UNKNOWN, "xeroTaskId": task["taskId"]}])
    assert [read_customer(firm), firm.admin.get(path)["items"]] == before

    pillars[1]["xeroTaskId"] = None
    answer = put_customer(firm, xeroProjectId=project["projectId"], pillars=pillars).json()
    assert answer == read_customer(firm) and answer["xeroProjectId"] == project["projectId"]
    assert {pillar["id"]: pillar["xeroTaskId"] for pillar in firm.admin.get(path)["items"]} == {
        firm.task["pillarId"]: task["taskId"],
        other["id"]: None,
    }
    put_customer(firm, pillars=[{"id": other["id"], "xeroTaskId": task["taskId"]}])
    assert firm.admin.get(f"{path}/{other['id']}")["xeroTaskId"] == task["taskId"]
    bill = firm.approved()
    firm.wait_for_status(bill, "synced")


def test_a_pillar_that_keeps_a_task_of_another_project_is_named(firm: Firm) -> None:
    project = firm.xero.project(f"Next project of {firm.by.email}")
    path = f"/api/customers/{firm.customer['id']}/pillars/{firm.task['pillarId']}"
    firm.admin.put(path, {"name": 'Général "A"'})
    warning = put_customer(firm, xeroProjectId=project["projectId"]).headers["Warning"]
    assert warning.startswith("199 stint ") and 'Général "A"' in json.loads(warning.removeprefix("199 stint "))
    assert "no task" in warning
    assert read_customer(firm)["xeroProjectId"] == project["projectId"]


@pytest.mark.parametrize("away", ["status", "stall", "disconnected"])
def test_a_mapping_is_accepted_with_a_warning_while_xero_cannot_be_asked(away: str, firm: Firm) -> None:
    if away == "disconnected":
        firm.admin.delete("/api/xero/disconnect")
    else:
        firm.xero.inject_faults({"kind": away, "status": 503, "seconds": 5, "path": "/Projects"})
    warning = put_customer(firm, xeroProjectId=UNKNOWN).headers["Warning"]
    assert ("not connected" if away == "disconnected" else "could not be asked") in warning
    assert "not checked" in put_pillar(firm, UNKNOWN).headers["Warning"]
    created = firm.admin.http.post("/api/customers", json={"name": firm.given.new_id(), "xeroProjectId": UNKNOWN})
    assert created.status_code == 201 and "not checked" in created.headers["Warning"]


def test_what_stays_as_it_is_needs_no_call_to_xero(firm: Firm) -> None:
    firm.settled()
    task_id = firm.xero.task(firm.project)["taskId"]
    firm.xero.forget_calls()
    pillars = [{"id": firm.task["pillarId"], "xeroTaskId": task_id}]
    body = {"name": "Renamed", "xeroProjectId": firm.project["projectId"], "pillars": pillars}
    assert "Warning" not in put_customer(firm, **body).headers
    assert "Warning" not in put_pillar(firm, task_id).headers
    put_customer(firm, notes="a")
    assert "Warning" not in put_customer(firm, xeroProjectId=None).headers
    assert "no project" in put_pillar(firm, firm.xero.task(firm.project, "Early")["taskId"]).headers["Warning"]
    assert [call for call in firm.xero.calls("/Projects/") if not call["path"].endswith("/Time")] == []
