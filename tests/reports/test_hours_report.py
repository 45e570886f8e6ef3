"""The report of hours, as a function over rows: sums are exactly those of the bills, with every grouping and every filter."""

import asyncio
import csv
import io
import json
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from itertools import permutations
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from api.http.server import CONNECTION
from api.reports import csv_responses
from api.reports.csv_responses import CsvResponse
from schemas.errors import Invalid
from schemas.hours import time_bills
from schemas.hours.time_bills import BillFilter
from schemas.identity.users import User
from schemas.postgres.connection import CONNECTION_OPTIONS, Connection
from schemas.postgres.listing import Page
from schemas.reports import days, hours
from schemas.reports.models import HoursReport, Level
from schemas.reports.spreadsheets import as_csv
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import new_database

Json = dict[str, Any]
GROUPINGS: list[tuple[Level, ...]] = [*((level,) for level in hours.LEVELS), *permutations(hours.LEVELS, 2)]
SUMS = ("bills", "seconds", "minutes", "approvedMinutes", "unapprovedMinutes", "notInXeroMinutes")
NOT_IN_XERO = ("queued", "failed", "not_connected", "not_mapped")
FIELDS = (
    *("customerId", "customerName", "pillarId", "pillarName", "userId", "userName", "userEmail", "day", "week", "month"),
    *SUMS,
)
YEAR = BillFilter(start_date=date(2026, 1, 1), end_date=date(2026, 12, 31))


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def random_bills(conn: Connection, rng: random.Random, count: int) -> tuple[User, list[FirmRows]]:
    """An admin, and bills of two people for two customers with two pillars each, of days around the ends of months, of a year
    and of weeks; some are deleted."""
    admin, other = await firm_rows.user(conn), await firm_rows.user(conn)
    firms = []
    for name in ("acme", "Bolt"):
        rows = await firm_rows.firm(conn, by=admin.id, name=name)
        second = await conn.value("INSERT INTO pillars (id, customer_id, name) VALUES (%s, %s, 'Hosting') RETURNING id",
                                  (uuid4(), rows.customer))  # fmt: skip
        firms += [rows, replace(rows, pillar=second)]
    firms += [replace(rows, user=other.id) for rows in firms]
    dates = [date(2026, 2, 27) + timedelta(days=number) for number in range(12)] + [date(2026, 12, 31), date(2025, 12, 31)]
    keys = [(rows, day) for rows in firms for day in dates]
    for rows, day in rng.sample(keys, count):
        status = rng.choice(["pending", "approved", "approved", "rejected"])
        more: Json = {"rounding_increment": rng.choice([1, 6, 15]), "rounding_mode": rng.choice(["up", "nearest"])}
        if status == "approved":
            more["xero_status"] = rng.choice([*NOT_IN_XERO, "synced", "none", "withdrawing", "differs"])
            if more["xero_status"] == "differs":
                deleted = rng.random() < 0.5
                more["xero_difference"] = Jsonb({"deleted": deleted, "minutes": 0 if deleted else 5, "changed": []})
        elif rng.random() < 0.2:
            more["deleted_at"] = "2026-03-03"
        await firm_rows.bill(conn, rows, date=day, seconds=rng.randrange(1, 30_000), status=status, **more)
    return admin, firms


async def listed(conn: Connection, filters: BillFilter, user: User) -> list[Json]:
    """The bills of the list with the same filters."""
    items = json.loads(await time_bills.list_page(conn, Page(1000), filters, user=user, enrich=True))["items"]
    return [item | {"notInXero": is_missing_in_xero(item)} for item in items]


def is_missing_in_xero(bill: Json) -> bool:
    xero = bill["xero"]
    return xero["status"] in NOT_IN_XERO or (xero["status"] == "differs" and (xero["inXero"] or {}).get("deleted") is True)


def group_of(bill: Json, levels: Iterable[Level]) -> Json:
    """The fields that the levels give the bill's row."""
    day = date.fromisoformat(bill["date"])
    found: Json = {}
    for level in levels:
        match level:
            case "customer":
                found |= {name: bill[name] for name in ("customerId", "customerName")}
            case "pillar":
                found |= {name: bill[name] for name in ("customerId", "customerName", "pillarId", "pillarName")}
            case "person":
                found |= {name: bill[name] for name in ("userId", "userName", "userEmail")}
            case "day":
                found |= {"day": day.isoformat()}
            case "week":
                found |= {"week": (day - timedelta(days=day.weekday())).isoformat()}
            case "month":
                found |= {"month": day.replace(day=1).isoformat()}
    return found


def sums_of(bills: Iterable[Json]) -> Json:
    found = dict.fromkeys(SUMS, 0)
    for bill in bills:
        approved = bill["status"] == "approved"
        found["bills"] += 1
        found["seconds"] += bill["seconds"]
        found["minutes"] += bill["minutes"]
        found["approvedMinutes" if approved else "unapprovedMinutes"] += bill["minutes"]
        found["notInXeroMinutes"] += bill["minutes"] if bill["notInXero"] else 0
    return found


def expected(bills: list[Json], levels: tuple[Level, ...]) -> list[Json]:
    """The rows of a report of these bills, by a plain loop, in no order."""
    groups: dict[str, list[Json]] = {}
    for bill in bills:
        groups.setdefault(json.dumps(group_of(bill, levels)), []).append(bill)
    empty = dict.fromkeys([name for name in FIELDS if name not in SUMS])
    return [empty | json.loads(group) | sums_of(of_group) for group, of_group in groups.items()]


def in_any_order(rows: Iterable[Json]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


async def read(conn: Connection, levels: tuple[Level, ...], filters: BillFilter, user: User, **more: Any) -> Json:
    answer = await hours.report(conn, levels, filters, user=user, **more)
    HoursReport.from_json(answer)
    found: Json = json.loads(answer)
    return found


def test_a_report_is_planned_for_its_days(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin, _ = await random_bills(conn, random.Random(1), 70)
        conn.prepare_threshold = CONNECTION_OPTIONS["prepare_threshold"]
        for _ in range(3):
            await listed(conn, YEAR, admin)
            await read(conn, ("month",), YEAR, admin)
            await hours.table(conn, ("month",), YEAR, user=admin)
        prepared = await conn.values("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%FROM time_bills%'")
        assert prepared and not [statement for statement in prepared if "WITH item AS" in statement]

    over(url, check)


@pytest.mark.parametrize(("level", "groups"), [("month", 12), ("week", 52)])
def test_a_report_is_planned_for_as_many_months_and_weeks_as_there_are(level: Level, groups: int, url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn, by=(await firm_rows.user(conn)).id)
        for number in range(0, 360, 2):
            await firm_rows.bill(conn, rows, date=date(2026, 1, 1) + timedelta(days=number))
        await conn.execute("ANALYZE time_bills")
        column = hours._GROUPED[level][level]
        [plan] = await conn.value(f"EXPLAIN (FORMAT JSON) SELECT {column}, count(*) FROM time_bills b GROUP BY {column}")
        assert plan["Plan"]["Plan Rows"] == groups

    over(url, check)


def test_the_parts_of_a_report_are_its_rows_in_their_order(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin, _ = await random_bills(conn, random.Random(3), 60)
        groupings: list[tuple[Level, ...]] = [("day",), ("person", "day"), ("customer", "week"), ("pillar", "person")]
        for levels in groupings:
            whole = HoursReport.from_json(await hours.report(conn, levels, YEAR, user=admin))
            rows = len(whole.items)
            parts = [await hours.part(conn, levels, YEAR, user=admin, start=start, most=5) for start in range(0, rows + 5, 5)]
            assert rows > 5 and [row for part in parts for row in part.items] == whole.items
            assert [len(part.items) for part in parts[:-1]] == [5] * (rows // 5) + [rows % 5] * (rows % 5 > 0)
            for part in parts:
                assert (part.rows, part.totals) == (rows, whole.totals)
                assert part.subtotals == (whole.subtotals if len(levels) > 1 else whole.items)

    over(url, check)


@pytest.mark.parametrize("seed", [1, 2])
def test_with_every_grouping_the_sums_are_exactly_those_of_the_bills(seed: int, url: str) -> None:
    async def check(conn: Connection) -> None:
        admin, _ = await random_bills(conn, random.Random(seed), 70)
        bills = await listed(conn, YEAR, admin)
        assert 40 < len(bills) < 70 and sums_of(bills)["notInXeroMinutes"] > 0
        for levels in GROUPINGS:
            found = await read(conn, levels, YEAR, admin)
            assert found["groupBy"] == list(levels)
            assert (found["startDate"], found["endDate"]) == ("2026-01-01", "2026-12-31")
            assert found["totals"] == sums_of(bills), levels
            assert in_any_order(found["items"]) == in_any_order(expected(bills, levels)), levels
            assert tuple(found["items"][0]) == FIELDS
            subtotals = expected(bills, levels[:1]) if len(levels) == 2 else []
            assert in_any_order(found["subtotals"]) == in_any_order(subtotals), levels
            fields, rows = await hours.table(conn, levels, YEAR, user=admin)
            named = [{name: item[to_camel(name)] for name in fields} for item in found["items"]]
            assert [{name: as_json(value) for name, value in zip(fields, row, strict=True)} for row in rows] == named
            assert {to_camel(name) for name in fields} == {*group_of(bills[0], levels), *SUMS}

    over(url, check)


def to_camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def as_json(value: object) -> object:
    return str(value) if isinstance(value, UUID | date) else value


def test_with_every_filter_a_report_has_the_bills_that_the_list_has(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin, firms = await random_bills(conn, random.Random(3), 70)
        everything, seen = await listed(conn, YEAR, admin), set()
        for filters in (
            replace(YEAR, customer="ACME"),
            replace(YEAR, customer=str(firms[2].customer)),
            replace(YEAR, customer="nobody"),
            replace(YEAR, pillar_id=firms[1].pillar),
            replace(YEAR, pillar_id=firms[1].pillar, customer="Bolt"),
            replace(YEAR, user_id=firms[-1].user),
            replace(YEAR, user_id=uuid4()),
            *(replace(YEAR, status=status) for status in ("pending", "approved", "rejected")),
            replace(YEAR, xero_status=["failed", "synced"]),
            replace(YEAR, start_date=date(2026, 3, 1), end_date=date(2026, 3, 1)),
            BillFilter(start_date=date(2025, 12, 31), end_date=date(2025, 12, 31), status="approved"),
        ):
            bills = await listed(conn, filters, admin)
            if filters.pillar_id is not None:
                assert all(bill["pillarId"] == str(filters.pillar_id) for bill in bills)
            found = await read(conn, ("customer", "day"), filters, admin)
            assert found["totals"] == sums_of(bills), filters
            assert in_any_order(found["items"]) == in_any_order(expected(bills, ("customer", "day"))), filters
            assert len(bills) < len(everything)
            seen.add(len(bills))
        assert len(seen) > 7, "the filters have different bills"

    over(url, check)


def test_names_are_in_their_order_and_days_the_earliest_first(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin = await firm_rows.user(conn)
        for name in ("beta", "Alpha", "Gamma"):
            rows = await firm_rows.firm(conn, by=admin.id, name=name)
            for day in (date(2026, 3, 9), date(2026, 3, 8), date(2026, 2, 9)):
                await firm_rows.bill(conn, rows, date=day)
        found = await read(conn, ("customer", "week"), YEAR, admin)
        weeks = ["2026-02-09", "2026-03-02", "2026-03-09"]
        assert [(item["customerName"], item["week"]) for item in found["items"]] == [
            (name, week) for name in ("Alpha", "beta", "Gamma") for week in weeks
        ]
        assert [item["customerName"] for item in found["subtotals"]] == ["Alpha", "beta", "Gamma"]
        by_month = await read(conn, ("month", "customer"), YEAR, admin)
        assert [(item["month"], item["bills"]) for item in by_month["subtotals"]] == [("2026-02-01", 3), ("2026-03-01", 6)]

    over(url, check)


def test_a_report_of_no_bills_has_no_items(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin = await firm_rows.user(conn)
        customers = await firm_rows.user(conn, "customer_user", customer_id=(await firm_rows.firm(conn)).customer)
        for user, not_in_xero in ((admin, 0), (customers, None)):
            found = await read(conn, ("person", "month"), YEAR, user)
            assert found["items"] == found["subtotals"] == []
            assert found["totals"] == dict.fromkeys(SUMS, 0) | {"notInXeroMinutes": not_in_xero}

    over(url, check)


def test_days_and_rows_are_limited(url: str) -> None:
    async def check(conn: Connection) -> None:
        admin, _ = await random_bills(conn, random.Random(4), 40)
        rows = len((await read(conn, ("person", "day"), YEAR, admin))["items"])
        assert len((await read(conn, ("person", "day"), YEAR, admin, max_rows=rows))["items"]) == rows
        with pytest.raises(Invalid, match=f"more than {rows - 1} rows"):
            await read(conn, ("person", "day"), YEAR, admin, max_rows=rows - 1)
        for start, end, error in (
            (date(2026, 1, 1), date(2027, 1, 2), "These are 367 days"),
            (date(2026, 1, 2), date(2026, 1, 1), "endDate is before startDate"),
            (date.min, date.max, "These are 3,652,059 days"),
        ):
            with pytest.raises(Invalid, match=error):
                await read(conn, ("customer",), BillFilter(start_date=start, end_date=end), admin)
        for start, end in ((date(2026, 1, 1), date(2027, 1, 1)), (date.min, date.min), (date.max, date.max)):
            await read(conn, ("week", "month"), BillFilter(start_date=start, end_date=end), admin)

    over(url, check)


def test_days_that_are_left_out_are_the_last_year_or_a_year_from_the_one_that_is_given(url: str) -> None:
    async def check(conn: Connection) -> None:
        today = await conn.value("SELECT (now() AT TIME ZONE 'Pacific/Auckland')::date")
        year, zone = timedelta(days=365), "Pacific/Auckland"
        assert await days.days(conn, None, None, zone=zone) == (today - year, today)
        first = date(2024, 1, 1)
        for start, end, both in (
            (first, None, (first, first + year)),
            (None, first, (first - year, first)),
            (first, first, (first, first)),
            (date.max, None, (date.max, date.max)),
            (None, date.min, (date.min, date.min)),
        ):
            assert await days.days(conn, start, end, zone=zone) == both

    over(url, check)


def test_verify_finds_sums_that_are_not_those_of_the_bills(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(conn: Connection) -> None:
        _, firms = await random_bills(conn, random.Random(5), 40)
        deleted = "UPDATE customers SET deleted_at = now() WHERE id = %s"
        await conn.execute(deleted, (firms[0].customer,))
        assert await conn.values(hours.wrong_sums(), {}) == []
        monkeypatch.setitem(hours._JOINS, "customer_id", "JOIN customers c ON c.id = s.customer_id AND c.deleted_at IS NULL")
        wrong = await conn.values(hours.wrong_sums(), {})
        assert any(str(firms[0].customer) in sentence for sentence in wrong)
        assert all(sentence.startswith(("customer", "pillar")) for sentence in wrong)

    over(url, check)


@pytest.mark.parametrize(
    ("text", "levels"),
    [("customer", ("customer",)), ("month,person", ("month", "person")), *((level, (level,)) for level in hours.LEVELS)],
)
def test_one_or_two_levels_are_read(text: str, levels: tuple[str, ...]) -> None:
    assert hours.parse_levels(text) == levels
    assert re.search(hours.GROUP_BY_PATTERN, text)


@pytest.mark.parametrize(
    "text",
    ["", ",", "year", "Customer", "customer,", "customer,customer", "customer,month,day", "customer, month", "\u200bday"],
)
def test_other_levels_are_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        hours.parse_levels(text)
    assert refused.value.detail == (
        "groupBy must be one or two of customer, pillar, person, day, week and month, such as customer,month."
    )
    assert not re.search(hours.GROUP_BY_PATTERN, text)


def test_no_name_in_a_report_becomes_a_formula_in_a_spreadsheet() -> None:
    names = ['=HYPERLINK("http://evil.example")', "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "a;=1", "Acme, Ltd", 'O"Neil']
    rows = list(csv.reader(io.StringIO(as_csv([[name, date(2026, 3, 2), 60, None] for name in names]), newline="")))
    assert [row[0] for row in rows] == [
        "'=HYPERLINK(\"http://evil.example\")", "'+1", "'-1", "'@SUM(1)", "\t'=1", "\r'=1", "a;'=1", "Acme, Ltd", 'O"Neil'
    ]  # fmt: skip
    assert all(row[1:] == ["2026-03-02", "60", ""] for row in rows)


def test_a_client_that_does_not_read_its_csv_is_disconnected() -> None:
    """As with uvicorn, `send` waits once the client reads nothing."""
    sent: list[bytes] = []
    aborted: list[bool] = []

    async def send(message: Json) -> None:
        sent.append(message.get("body", b""))
        if len(sent) == 3:
            await asyncio.Event().wait()

    async def answer() -> None:
        connection = SimpleNamespace(transport=SimpleNamespace(abort=lambda: aborted.append(True)))
        response = CsvResponse("head\r\n", [("a", 1)] * 5 * csv_responses.PART, "x.csv", slow_seconds=0.05)
        await response({"extensions": {CONNECTION: connection}}, None, send)  # type: ignore[arg-type]

    asyncio.run(answer())
    assert aborted == [True] and len(sent) == 3 and sent[1] == b"head\r\n"
    assert sent[2] == b"a,1\r\n" * csv_responses.PART
