"""What a bill on its way to Xero waits for, and when it goes; lists by Xero status. Over rows, without workers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.hours import time_bills
from schemas.hours.time_bills import BillFilter, XeroStatus
from schemas.identity.users import Role
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from tests.outbox.rows import message, over
from tests.support import firm_rows
from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.installation import eventually

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)  # also when the tests take long
LATER = SOON + timedelta(minutes=10)


async def waits_for(conn: Connection, bill_id: UUID) -> tuple[str, datetime | None] | None:
    user = await firm_rows.user(conn)
    assert user.role is Role.admin
    found = json.loads(await time_bills.get(conn, bill_id, user=user))["xero"]["waitingFor"]
    if found is None:
        return None
    until = found["until"] and datetime.fromisoformat(found["until"])
    return found["cause"], until


CASES: list[tuple[str, str, dict[str, Any], tuple[str, datetime | None] | None]] = [
    ("a free worker", "queued", {}, ("slot", None)),
    ("its slot", "queued", {"slot_at": SOON}, ("slot", SOON)),
    ("a slot that is over", "queued", {"slot_at": datetime(2026, 3, 1, tzinfo=UTC)}, ("slot", None)),
    ("a pause", "queued", {"paused_until": SOON}, ("limit", SOON)),
    ("a pause before its slot", "queued", {"paused_until": SOON, "slot_at": LATER}, ("limit", LATER)),
    ("a pause after its slot", "withdrawing", {"paused_until": LATER, "slot_at": SOON}, ("limit", LATER)),
    ("a retry", "queued", {"available_at": SOON}, ("retry", SOON)),
    ("a retry of a withdrawal", "withdrawing", {"available_at": SOON}, ("retry", SOON)),
    ("a mapping", "not_mapped", {"paused_until": SOON}, ("mapping", None)),
    ("another organisation", "not_connected", {}, ("connection", None)),
    ("reconnecting", "queued", {"needs_reconnect": True, "paused_until": SOON}, ("connection", None)),
    ("connecting", "queued", {"disconnected": True}, ("connection", None)),
    ("nothing, it is there", "synced", {"paused_until": SOON}, None),
    ("a person", "failed", {"paused_until": SOON}, None),
    ("nothing, it has no minutes", "none", {"paused_until": SOON}, None),
]


@pytest.mark.parametrize(("status", "given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bill_says_what_it_waits_for_and_until_when(
    status: str, given: dict[str, Any], expected: tuple[str, datetime | None] | None, url: str
) -> None:
    async def check(conn: Connection) -> None:
        if not given.get("disconnected"):
            await firm_rows.connect_xero(conn)
        bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status=status)
        retry = f"'{given['available_at']}'" if "available_at" in given else "now() - interval '1 minute'"
        message_id = await message(conn, available_at=retry)
        await conn.execute(
            "INSERT INTO xero_entries (bill_id, claimed_by, slot_at) VALUES (%s, %s, %s)",
            (bill_id, message_id, given.get("slot_at")),
        )
        if "paused_until" in given:
            await conn.execute("UPDATE xero_tenants SET paused_until = %s", (given["paused_until"],))
        if given.get("needs_reconnect"):
            await conn.execute("UPDATE xero_connection SET needs_reconnect_at = now()")
        assert await waits_for(conn, bill_id) == expected

    over(url, check)


@pytest.mark.parametrize("state", ["sent", "calling", "done", "dead", "discarded"])
def test_a_message_that_is_not_ready_is_no_retry(state: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status="queued")
        message_id = await message(conn, state, available_at="now() + interval '1 hour'")
        await conn.execute("INSERT INTO xero_entries (bill_id, claimed_by) VALUES (%s, %s)", (bill_id, message_id))
        assert await waits_for(conn, bill_id) == ("slot", None)

    over(url, check)


ALL: list[XeroStatus] = ["none", "queued", "synced", "failed", "not_connected", "not_mapped", "withdrawing"]


@pytest.mark.parametrize("chosen", [["failed"], ["queued", "not_mapped"], ["none", "synced", "withdrawing"], ALL])
@pytest.mark.parametrize("enrich", [False, True])
def test_a_list_has_the_bills_with_any_of_the_statuses(chosen: list[XeroStatus], enrich: bool, url: str) -> None:
    async def check(conn: Connection) -> None:
        rows, user = await firm_rows.firm(conn), await firm_rows.user(conn)
        for status in ALL:
            synced_at = "2026-03-04" if status == "synced" else None
            await firm_rows.bill(conn, rows, status="approved", xero_status=status, xero_synced_at=synced_at)
        filters = BillFilter(xero_status=chosen)
        page = json.loads(await time_bills.list_page(conn, Page(), filters, user=user, enrich=enrich))
        assert sorted(bill["xero"]["status"] for bill in page["items"]) == sorted(chosen)
        assert all(("waitingFor" in bill["xero"]) and (("customerName" in bill) is enrich) for bill in page["items"])

    over(url, check)


def test_a_bill_of_a_paused_organisation_goes_when_the_pause_ends(firm: Firm) -> None:
    firm.xero.inject_fault("status", method="POST", path="/Time$", count=1, status=429, retryAfter=4)
    bill = firm.approved()

    eventually(lambda: (firm.read(bill)["xero"]["waitingFor"] or {}).get("cause") == "limit", why=str(firm.read(bill)["xero"]))
    until = datetime.fromisoformat(firm.read(bill)["xero"]["waitingFor"]["until"])

    synced = firm.wait_for_status(bill, "synced")
    assert synced["xero"]["waitingFor"] is None
    assert timedelta() <= datetime.fromisoformat(synced["xero"]["syncedAt"]) - until < timedelta(seconds=5)


def test_lists_by_xero_status_over_http(firm: Firm) -> None:
    synced = firm.approved(60, "2026-03-02")
    firm.wait_for_status(synced, "synced")
    firm.map_pillar(None)
    unmapped = firm.approved(60, "2026-03-03")
    firm.wait_for_status(unmapped, "not_mapped")
    pending = firm.bill(60, "2026-03-04")

    def listed(*statuses: str) -> set[str]:
        query = {"customerId": firm.customer["id"], "xeroStatus": list(statuses), "enrich": True}
        return {bill["id"] for bill in firm.by.get("/api/time-bills", **query)["items"]}

    assert listed("not_mapped") == {unmapped["id"]}
    assert listed("synced", "not_mapped") == listed("not_mapped", "synced", "synced") == {synced["id"], unmapped["id"]}
    assert listed("none") == {pending["id"]}
    refused = problem(firm.by.http.get("/api/time-bills?xeroStatus=synced&xeroStatus=lost"), 422)
    assert "xeroStatus" in refused["errors"][0]["path"]
    customer_user = firm.given.person("customer_user", firm.customer["id"])
    for chosen in (["synced"], ["synced", "not_mapped", "none"]):
        problem(customer_user.http.get("/api/time-bills", params={"xeroStatus": chosen}), 403)
    seen = {bill["id"]: bill["xero"] for bill in customer_user.get("/api/time-bills")["items"]}
    assert seen.keys() == {synced["id"], unmapped["id"]}
    assert seen[unmapped["id"]]["error"] is None
