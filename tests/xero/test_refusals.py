"""Bills that Xero refuses: their dead letters are grouped by the reason, and say whose bill it is."""

from tests.support.firm_with_xero import Firm
from tests.support.given import Json


def refused(firm: Firm, day: str) -> tuple[str, str]:
    """The id and the group of the dead letter of a bill that Xero refuses."""
    bill = firm.approved(day=day)
    firm.wait_for_status(bill, "failed")
    firm.settled()
    query = "SELECT id::text, fingerprint FROM messages WHERE state = 'dead' AND body->>'bill_id' = %s"
    [(message_id, group)] = firm.stint.rows(query, bill["id"])
    return message_id, group


def fixed_task(firm: Firm, name: str) -> Json:
    task = firm.xero.task(firm.project, name)
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType="FIXED")
    return task


def test_each_reason_is_a_group_of_its_own_however_many_bills_it_has(firm: Firm) -> None:
    fixed_task(firm, "Setup")
    _, of_task = refused(firm, "2026-03-02")
    fixed_task(firm, "Another setup")
    _, of_another_task = refused(firm, "2026-03-03")
    assert of_task == of_another_task and "fixed price" in example(firm, of_task)
    firm.xero.close_project(firm.project)
    _, of_project = refused(firm, "2026-03-04")
    assert of_project != of_task and "closed project" in example(firm, of_project)
    assert "fixed price" in example(firm, of_task)


def example(firm: Firm, fingerprint: str) -> str:
    groups = {group["fingerprint"]: group for group in firm.admin.get("/api/dead-letters/groups")["items"]}
    return str(groups[fingerprint]["example"])


def test_a_dead_letter_names_customer_project_task_and_consultant(firm: Firm) -> None:
    task = fixed_task(firm, "Setup")
    message_id, _ = refused(firm, "2026-03-02")

    bill = firm.admin.get(f"/api/dead-letters/{message_id}")["bill"]

    assert (bill["customer"], bill["date"], bill["minutes"]) == (firm.customer["name"], "2026-03-02", 60)
    assert firm.by.email in bill["consultant"] and bill["pillar"] == "General Support"
    assert (bill["xeroProjectId"], bill["xeroTaskId"]) == (firm.project["projectId"], task["taskId"])
    shown = firm.stint.command("dead", "show", message_id).stdout
    for text in (firm.customer["name"], firm.by.email, "General Support", firm.project["projectId"], task["taskId"]):
        assert text in shown, shown
