"""GET /api/xero/reconciliation and ./stint xero check, with a stand-in Xero: what people did there is found and reported."""

import csv
import io
import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import httpx2

from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.xero_sandbox import XeroSandbox

PATH = "/api/xero/reconciliation"


def test_a_fresh_check_finds_what_was_changed_in_xero_and_its_exit_code_says_so(
    own_with_xero: Installation, xero: XeroSandbox, given_own: Given
) -> None:
    own_with_xero.environment["STINT_XERO_CHECK_SECONDS"] = "600"  # only what is requested is read
    firm = Firm.new(own_with_xero.start().wait_until_ready(), xero, given_own)
    bills = [firm.wait_for_status(firm.approved(60, f"2026-03-0{day}"), "synced") for day in (1, 2, 3, 4)]
    dates = ("--start-date", "2026-01-01", "--end-date", "2026-12-31")
    is_old = "SELECT max(xero_synced_at) < now() - interval '2 seconds' FROM time_bills"
    eventually(lambda: firm.stint.value(is_old), why="Xero's lists have all of them")
    agreed = firm.stint.command("xero", "check", "--fresh", *dates)
    assert agreed.returncode == 0 and "All agree." in agreed.stdout, agreed.stderr

    entry_ids = [bill["xero"]["timeEntryId"] for bill in bills]
    [copied] = [entry for entry in firm.entries() if entry["timeEntryId"] == entry_ids[2]]
    firm.xero.change_entry(entry_ids[0], duration=5)
    firm.xero.delete_entry(entry_ids[1])
    copy = firm.xero.copy_entry(copied, duration=7)
    checked = firm.stint.command("xero", "check", "--fresh", "--json", *dates)
    assert checked.returncode == 3, checked.stderr
    found = json.loads(checked.stdout)
    items = {item["date"]: item for item in found["items"]}
    assert (items["2026-03-01"]["result"], items["2026-03-01"]["xeroMinutes"]) == ("differs", 5)
    assert (items["2026-03-02"]["result"], items["2026-03-02"]["cause"]) == ("missing", "deleted")
    assert items["2026-03-04"]["result"] == "agrees" and items["2026-03-04"]["readAt"]
    printed = firm.stint.command("xero", "check", "--fresh", *dates)
    assert printed.returncode == 3 and "Not all agree" in printed.stdout, printed.stderr
    answer = firm.admin.get(PATH, startDate="2026-01-01", endDate="2026-12-31")
    strays = [item for item in answer["items"] if item["cause"] == "stray"]
    assert [(item["timeEntryId"], item["xeroMinutes"], item["billId"]) for item in strays] == [
        (copy["timeEntryId"], 7, bills[2]["id"])
    ]
    [project] = answer["projects"]
    assert project["customers"] == [firm.customer["name"]] and project["readAt"] and project["error"] is None

    firm.xero.delete_entry(copy["timeEntryId"])
    body = {"ids": [bill["id"] for bill in bills], "reason": "agreed"}
    assert firm.admin.post("/api/xero/time-bills/accept", body, status=200)["accepted"] == 2
    agreed = firm.stint.command("xero", "check", "--fresh", "--json", *dates)
    assert agreed.returncode == 0, agreed.stderr
    results = [item["result"] for item in json.loads(agreed.stdout)["items"]]
    assert results == ["agrees", "agrees", "accepted", "accepted"]
    firm.stint.verify()


def test_the_comparison_is_answered_in_pages_as_json_and_csv(firm: Firm) -> None:
    firm.map_pillar(None)
    for day in (1, 2, 3):
        firm.wait_for_status(firm.approved(60, f"2026-05-0{day}"), "not_mapped")
    first = firm.by.get(PATH, startDate="2026-05-01", endDate="2026-05-31", limit=2)
    assert [item["date"] for item in first["items"]] == ["2026-05-03", "2026-05-02"] and first["totals"]["missing"][
        "count"
    ] == 3
    assert {item["cause"] for item in first["items"]} == {"not_mapped"} and first["allAgree"] is False

    path = f"{PATH}?startDate=2026-05-01&endDate=2026-05-31&limit=2&format=csv"
    answers: list[httpx2.Response] = [firm.by.http.get(path)]
    while link := answers[-1].headers.get("link"):
        assert link.endswith('>; rel="next"')
        answers.append(firm.by.http.get(link[1:].partition(">")[0]))
    assert len(answers) == 2
    rows = []
    for answer in answers:
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="xero-2026-05-01-2026-05-31.csv"'
        rows += list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["date"], row["result"], row["minutes"], row["xeroMinutes"]) for row in rows] == [
        (f"2026-05-0{day}", "missing", "60", "") for day in (3, 2, 1)
    ]
    printed = firm.stint.command("xero", "check", "--csv", "--start-date", "2026-05-01", "--end-date", "2026-05-31")
    assert printed.returncode == 3 and list(csv.DictReader(io.StringIO(printed.stdout))) == rows


def test_the_days_are_limited_and_by_default_the_last_year(firm: Firm) -> None:
    january = "startDate=2026-01-01&endDate=2026-01-31"
    today = datetime.now(ZoneInfo(firm.stint.settings.stint_timezone)).date()
    dates = {today - timedelta(days=ago) for ago in (0, 365, 366)}
    firm.map_pillar(None)
    for day in dates:
        firm.approved(60, day.isoformat())
    items = firm.by.get(PATH, limit=1000)["items"]
    shown = {item["date"] for item in items if item["customerName"] == firm.customer["name"]}
    assert shown == {day.isoformat() for day in dates - {min(dates)}}
    for query in ("startDate=2026-02-01&endDate=2026-01-01", f"{january}&format=xml",
                  "startDate=2025-01-01&endDate=2026-12-31"):  # fmt: skip
        problem(firm.by.http.get(f"{PATH}?{query}"), 422)
    refused = firm.stint.command("xero", "check", "--start-date", "2020-01-01", "--end-date", "2026-01-01")
    assert refused.returncode == 1 and "366 days" in refused.stderr
