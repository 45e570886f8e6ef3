"""`./stint demo` creates a realistic firm in an empty installation, completely or not at all."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from ops.demo.run import Filled, fill
from schemas.hours.entry_rules import EntryRules
from schemas.postgres.connection import connect
from tests.faults.test_events import frozen
from tests.support.installation import CHECKOUT, Installation, eventually, new_database

ZONE = "Europe/Berlin"
ENTRIES = 5_099  # of three consultants: a whole year, with both changes of the clocks
FILLED_TABLES = ("users", "customers", "pillars", "tasks", "timers", "time_bills", "time_entries")

SCHEMA = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated::text
    FROM pg_constraint WHERE conrelid <> 0
    UNION ALL SELECT tablename, indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled::text
    FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Firm:
    """An installation with a demo in it, whose processes are not started."""

    stint: Installation
    filled: Filled

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.stint.rows(query, *parameters)

    def value(self, query: str, *parameters: Any) -> Any:
        return self.stint.value(query, *parameters)


@pytest.fixture(scope="module")
def firm(database_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firm]:
    """Nobody changes it."""
    stint = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("demo"), STINT_TIMEZONE=ZONE)
    settings = stint.settings

    async def made() -> Filled:
        async with await connect(settings) as conn:
            return await fill(conn, entries=ENTRIES, rules=EntryRules.of(settings))

    try:
        yield Firm(stint, asyncio.run(made()))
    finally:
        stint.stop()


def test_there_are_exactly_as_many_entries_as_asked_for_and_all_invariants_hold(firm: Firm) -> None:
    counts = firm.rows(
        """
        SELECT count(*), min(date), max(date), (SELECT count(*) FROM time_bills), (SELECT count(*) FROM customers),
               (SELECT count(*) FROM tasks), count(DISTINCT user_id)
        FROM time_entries
        """
    )[0]
    filled = firm.filled
    assert counts == (
        ENTRIES, filled.first_day, filled.last_day, filled.bills, filled.customers, filled.tasks, filled.consultants
    )  # fmt: skip
    firm.stint.verify()


def test_nobody_works_on_two_things_at_once(firm: Firm) -> None:
    overlaps = """
        SELECT count(*) FROM (
            SELECT end_time, lead(start_time) OVER (PARTITION BY user_id ORDER BY start_time) AS next FROM time_entries) e
        WHERE next < end_time
    """
    assert firm.value(overlaps) == 0
    assert (
        firm.value("SELECT count(*) FROM time_entries e JOIN timers USING (user_id) WHERE e.end_time > timers.start_time") == 0
    )


def test_days_are_the_firms_also_when_the_clocks_change(firm: Firm) -> None:
    offsets = "SELECT count(DISTINCT (start_time AT TIME ZONE %s) - (start_time AT TIME ZONE 'UTC')) FROM time_entries"
    assert firm.value(offsets, ZONE) == 2
    assert firm.value("SELECT count(*) FROM time_entries WHERE date <> (start_time AT TIME ZONE %s)::date", ZONE) == 0
    begins = """
        SELECT min(clock), max(clock), max(extract(isodow FROM date)) FROM (
            SELECT user_id, date, min(start_time AT TIME ZONE %s)::time AS clock FROM time_entries GROUP BY user_id, date) d
    """
    earliest, latest, weekday = firm.rows(begins, ZONE)[0]
    assert (earliest.hour, latest.hour) == (7, 9), "people come between half past seven and half past nine, all year"
    assert weekday < 7
    assert firm.value("SELECT max(date) < (now() AT TIME ZONE %s)::date FROM time_entries", ZONE)


def test_bills_are_in_every_state_that_their_age_allows(firm: Firm) -> None:
    states = dict(firm.rows("SELECT status, count(*) FROM time_bills GROUP BY status"))
    assert states.keys() == {"pending", "approved", "rejected"}
    old = "SELECT avg((status = 'approved')::int) FROM time_bills WHERE date < current_date - 43"
    assert firm.value(old) > 0.9
    assert firm.value("SELECT count(*) FROM time_bills WHERE date > current_date - 13 AND status <> 'pending'") == 0
    assert firm.value("SELECT count(*) FROM time_bills WHERE memo <> ''") > 0
    amiss = """
        SELECT count(*) FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN users a ON a.id = b.approved_by
        WHERE b.status = 'approved' AND NOT (
            b.minutes > 0 AND b.xero_status = 'not_connected' AND a.role = 'internal_admin' AND b.approved_at < now()
            AND b.approved_at > (SELECT max(e.end_time) FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL))
           OR (b.rounding_increment, b.rounding_mode) <> (c.rounding_increment, c.rounding_mode)
    """
    assert firm.value(amiss) == 0


def test_only_what_lasted_longer_than_a_working_day_is_flagged_long(firm: Firm) -> None:
    assert firm.value("SELECT count(*) FROM time_entries WHERE ('long' = ANY(flags)) <> (duration > 12 * 3600)") == 0


def test_a_consultants_month_is_as_long_as_a_real_one(firm: Firm) -> None:
    filled = firm.filled
    month = "SELECT count(*), count(DISTINCT bill_id) FROM time_entries WHERE user_id = %s AND date BETWEEN %s AND %s"
    entries, bills = firm.rows(month, filled.consultant_id, filled.month_first, filled.month_last)[0]
    assert 100 <= entries <= 200
    assert 2 <= entries / bills <= 3


def test_customers_differ_and_have_what_every_customer_has(firm: Firm) -> None:
    assert firm.value("SELECT count(DISTINCT lower(name)) = count(*) AND NOT bool_and(active) FROM customers")
    rules = firm.value("SELECT count(DISTINCT (rounding_increment, rounding_mode)) FROM customers")
    assert rules == firm.filled.customers
    pillars = "SELECT customer_id, count(*), max(name) FILTER (WHERE is_default) FROM pillars GROUP BY customer_id"
    assert all(3 <= count <= 5 and default == "General Support" for _, count, default in firm.rows(pillars))
    assert {"customer_admin", "customer_user"} <= {
        role for (role,) in firm.rows("SELECT role FROM users WHERE customer_id IS NOT NULL")
    }


def test_timers_run_that_block_no_approval(firm: Firm) -> None:
    assert firm.value("SELECT count(*) FROM timers WHERE start_time BETWEEN now() - interval '1 hour' AND now()") == 3
    stand_in_the_way = """
        SELECT count(*) FROM timers r JOIN tasks t ON t.id = r.task_id JOIN time_bills b
            ON (b.user_id, b.customer_id, b.pillar_id) = (r.user_id, t.customer_id, t.pillar_id)
        WHERE b.status = 'approved' AND b.date = (r.start_time AT TIME ZONE %s)::date
    """
    assert firm.value(stand_in_the_way, ZONE) == 0


def test_constraints_indexes_and_triggers_are_all_in_force_afterwards(firm: Firm, own: Installation) -> None:
    assert firm.rows(SCHEMA) == own.rows(SCHEMA)
    firm_xid = "SELECT count(*) FROM time_entries WHERE changed_xid IS DISTINCT FROM (SELECT max(changed_xid) FROM customers)"
    assert firm.value(firm_xid) == 0, "what a sync client receives"


def test_a_token_for_the_demos_admin_opens_its_months(firm: Firm) -> None:
    filled = firm.filled
    users_before = firm.value("SELECT count(*) FROM users")
    token = firm.stint.command("token", "--role", "internal_admin", "--email", filled.admin_email).stdout.strip()
    subject = jwt.decode(token, options={"verify_signature": False})["sub"]
    assert subject == str(firm.value("SELECT id FROM users WHERE email = %s", filled.admin_email))
    assert firm.value("SELECT count(*) FROM users") == users_before


def test_an_installation_with_a_firm_refuses_a_second_one(own: Installation) -> None:
    first = own.command("demo", "--entries", "2000")
    assert first.returncode == 0, first.stderr
    assert "2,000 time entries" in first.stdout and "./stint token --role internal_admin --email" in first.stdout
    before = fingerprint(own)
    second = own.command("demo", "--entries", "10")
    assert (second.returncode, second.stdout) == (1, "")
    assert "has customers already" in second.stderr and "Traceback" not in second.stderr
    assert fingerprint(own) == before
    own.verify()


def test_a_number_of_consultants_makes_a_larger_firm_with_fewer_weeks(own: Installation) -> None:
    refused = own.command("demo", "--entries", "2000", "--consultants", "1")
    assert (refused.returncode, refused.stderr) == (
        1,
        "stint: 2,000 time entries need 2 consultants or more, and 2,000 at most.\n",
    )
    assert own.command("demo", "--entries", "700", "--consultants", "20").returncode == 0
    counts = "SELECT count(*), count(DISTINCT user_id), max(date) - min(date) < 28 FROM time_entries"
    assert own.rows(counts) == [(700, 20, True)]
    own.verify()


def test_a_single_customer_of_ones_own_is_enough_to_be_left_alone(own: Installation) -> None:
    with own.sql() as conn:
        conn.execute("INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@example.com', 'A')")
        conn.execute(
            "INSERT INTO customers (id, name, created_from, created_by, deleted_at)"
            " SELECT gen_random_uuid(), 'Real Ltd', '', id, now() FROM users"
        )
    before = fingerprint(own)
    assert own.command("demo", "--entries", "10").returncode == 1
    assert fingerprint(own) == before


def test_an_address_that_somebody_has_is_not_given_out_again(own: Installation, firm: Firm) -> None:
    with own.sql() as conn:
        taken = firm.filled.admin_email.upper()
        conn.execute("INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), %s, 'A')", (taken,))
    assert own.command("demo", "--entries", "100").returncode == 0
    assert own.value("SELECT count(*) - count(DISTINCT lower(email)) FROM users") == 0


def test_of_two_at_once_one_wins_and_the_other_refuses(own: Installation) -> None:
    slow = start(own, entries=60_000)
    try:
        eventually(lambda: is_writing(own), seconds=90, why="the first one writes")
        with frozen([slow.pid]):
            other = own.command("demo", "--entries", "10")
        assert other.returncode == 1
        assert "Another demo is filling this installation" in other.stderr
        assert slow.wait(60) == 0
    finally:
        slow.kill()
        slow.wait()
    assert own.value("SELECT count(*) FROM time_entries") == 60_000
    own.verify()


def test_one_that_is_killed_midway_leaves_nothing_and_can_be_run_again(own: Installation) -> None:
    schema = own.rows(SCHEMA)
    killed = start(own, entries=300_000)
    try:
        eventually(lambda: is_writing(own), seconds=90, why="it writes")  # seconds of CPU after its start
    finally:
        killed.kill()
        killed.wait()
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    """
    eventually(lambda: own.value(others) == 0, seconds=60, why="Postgres has noticed")
    assert [own.value(f"SELECT count(*) FROM {table}") for table in FILLED_TABLES] == [0] * len(FILLED_TABLES)
    assert own.rows(SCHEMA) == schema
    again = own.command("demo", "--entries", "500")
    assert again.returncode == 0, again.stderr
    own.verify()


def fingerprint(stint: Installation) -> list[Any]:
    """Changes with any row."""
    return [
        stint.rows(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t") for table in FILLED_TABLES
    ]


def start(stint: Installation, *, entries: int) -> subprocess.Popen[bytes]:
    """`./stint demo` in a process that goes on."""
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "demo", "--entries", str(entries)],
        cwd=CHECKOUT,
        env=os.environ | stint.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def is_writing(stint: Installation) -> bool:
    return bool(stint.value("SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'time_entries'::regclass"))
