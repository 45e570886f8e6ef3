"""Whatever keeps an approved bill out of Xero: the bill, the status, `./stint status` and `doctor`, and a mail say the same;
once it is fixed, nothing is left to do. Lost access is in test_access.py."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.mail.templates import without_links
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json
from tests.support.installation import CHECKOUT, Installation, eventually
from tests.support.pages import sample
from tests.support.xero_sandbox import XeroSandbox


@pytest.fixture
def firm(shared: Installation, shared_xero: XeroSandbox) -> Iterator[Firm]:
    shared_xero.reset()
    shared_xero.disable_limits()
    given = Given(shared)
    yield Firm.new(shared, shared_xero, given)
    shared_xero.clear_faults()
    given.close()


@dataclass(frozen=True)
class Cause:
    """`break_it` is done before the bill is approved, and returns what `fix` gets. `says`: words of the reason. `status`: of
    the bill. `mail`: how the subject of the admins' mail begins; None: there is none. `doctor`: words of its finding."""

    break_it: Callable[[Firm], Any]
    fix: Callable[[Firm, Any], Any]
    status: str
    says: str
    doctor: str | None
    mail: str | None = None
    waits_for: str | None = None


def remove_the_consultant(firm: Firm) -> Json:
    firm.wait_for_status(firm.approved(day="2026-01-05"), "synced")  # Stint has read Xero's users
    user: Json = firm.xero.user(firm.by.email)
    firm.xero.remove_user(user)
    return user


def connect_another_organisation(firm: Firm) -> str:
    first: str = firm.project["tenant"]
    firm.connect(tenantId=firm.xero.tenant("Second Ltd"))
    return first


def map_a_task_at_a_fixed_price(firm: Firm) -> str:
    right = firm.stint.value("SELECT xero_task_id FROM pillars WHERE id = %s", firm.task["pillarId"])
    task = firm.xero.task(firm.project, "At a fixed price")
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType="FIXED")
    return str(right)


def close_the_project(firm: Firm) -> None:
    firm.xero.close_project(firm.project)


def reopen_the_project(firm: Firm, _: Any) -> None:
    firm.xero.change_project(firm.project, status="INPROGRESS")
    # the request that docs/xero.md shows, for the bills of this test
    line, _, text = sample(CHECKOUT / "docs/xero.md", "POST /api/xero/time-bills/send").partition("\n")
    body = json.loads(text)
    body["filter"]["customerId"] = firm.customer["id"]
    assert firm.admin.post(line.removeprefix("POST "), body, status=200)["sent"] == 1


def pause_for_the_day(firm: Firm) -> None:
    firm.xero.inject_fault("status", method="POST", path="/Time$", count=1, status=429, retryAfter=3, problem="day")


def unmap_the_pillar(firm: Firm) -> str:
    task = str(firm.stint.value("SELECT xero_task_id FROM pillars WHERE id = %s", firm.task["pillarId"]))
    firm.map_pillar(None)
    return task


CAUSES = {
    "consultant removed": Cause(
        remove_the_consultant, lambda firm, _: firm.xero.user(firm.by.email), "not_mapped", "no user with the address",
        "Approved bills wait", "Bills wait for Xero", "mapping",
    ),
    "another organisation": Cause(
        connect_another_organisation, lambda firm, first: firm.connect(tenantId=first), "not_mapped",
        "another Xero organisation", "Approved bills wait", "Bills wait for Xero", "mapping",
    ),
    "pillar not mapped": Cause(
        unmap_the_pillar, lambda firm, task: firm.map_pillar(task), "not_mapped", "has no task in Xero", None, None, "mapping",
    ),
    "task at a fixed price": Cause(
        map_a_task_at_a_fixed_price, lambda firm, task: firm.map_pillar(task), "failed", "fixed price", "has refused",
    ),
    "project closed": Cause(close_the_project, reopen_the_project, "failed", "closed project", "has refused"),
    "limit of the day": Cause(pause_for_the_day, lambda *_: None, "queued", "", None, None, "limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_every_view_says_the_same_and_after_the_cure_nothing_is_left_to_do(name: str, firm: Firm) -> None:
    cause = CAUSES[name]
    # the mails of a day about the bills of other tests
    firm.stint.rows("UPDATE xero_tenants SET waits_told_at = NULL, differs_told_at = NULL RETURNING 1")
    start = firm.stint.value("SELECT clock_timestamp()")
    broken = cause.break_it(firm)

    bill = firm.approved(day="2026-02-02")

    firm.wait_for_status(bill, cause.status)
    if cause.waits_for == "limit":
        eventually(lambda: firm.admin.get("/api/xero/status")["pausedBecause"] == "day")
    shown = firm.read(bill)["xero"]
    assert cause.says in (shown["error"] or "")
    assert (shown["waitingFor"] or {}).get("cause") == cause.waits_for
    status = firm.admin.get("/api/xero/status")
    assert bills_with(firm, cause.status) == 1 and status["accessLost"] is None
    listed = firm.admin.get("/api/time-bills", xeroStatus=cause.status, customerId=firm.customer["id"])["items"]
    assert bill["id"] in [item["id"] for item in listed]
    findings = findings_about_xero(firm)
    if cause.doctor is None:
        assert findings == []
    else:
        [finding] = findings
        assert cause.doctor in finding["what"]
        assert cause.says in f"{finding['why']} {finding['what']}" or "xero.error" in finding["do"]
        printed = firm.stint.command("status").stdout.replace("\n", " ")
        assert cause.says in printed or "has refused 1 bill" in printed
    assert [
        (mail["subject"][: len(cause.mail or "")], without_links(shown["error"] or "") in mail["paragraphs"])
        for mail in mails(firm, start)
    ] == ([(cause.mail, True)] if cause.mail else [])
    if cause.status == "failed":
        assert cause.says in dead_letters(firm)[0]["error"]

    cause.fix(firm, broken)

    firm.wait_for_status(bill, "synced", seconds=40)
    firm.settled()
    after = firm.read(bill)["xero"]
    assert (after["error"], after["waitingFor"]) == (None, None)
    assert findings_about_xero(firm) == [] and dead_letters(firm) == []
    assert bills_with(firm, cause.status) == 0
    assert len(mails(firm, start)) == (1 if cause.mail else 0)
    firm.check()


def bills_with(firm: Firm, status: str) -> int:
    counts = firm.admin.get("/api/xero/status")["bills"]
    return int(counts[{"not_mapped": "notMapped"}.get(status, status)])


def findings_about_xero(firm: Firm) -> list[Json]:
    found = json.loads(firm.stint.command("doctor", "--json").stdout)
    return [finding for finding in found if "Xero" in finding["what"]]


def dead_letters(firm: Firm) -> list[Json]:
    found: list[Json] = firm.admin.get("/api/dead-letters", actor="sync_bill")["items"]
    return found


def mails(firm: Firm, since: Any) -> list[Json]:
    """The mails to this test's admin since then."""
    query = "SELECT body FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s AND created_at > %s"
    return [body for (body,) in firm.stint.rows(query, firm.admin.email, since)]
