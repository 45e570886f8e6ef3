"""`./stint demo`: fills an empty installation with a realistic firm, to look at and to measure with."""

import argparse
import asyncio
import logging
import os
import random
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg.errors import LockNotAvailable

from ops.demo import follow_ups
from ops.demo.firm import ENTRIES_A_YEAR, Firm, FirmBuilder, Person, Project, Size
from ops.demo.hours import BILLS, ENTRIES, Hours, HoursPlanner, binary, calendar
from ops.errors import CommandError
from ops.progress import Update, progress
from ops.state import DEFAULT
from schemas.hours.entry_rules import EntryRules
from schemas.postgres.connection import Connection, connect
from schemas.settings import Settings, settings

SEED = 20  # the same firm every time; only its days follow today's
MOST_ENTRIES = 5_000_000  # more would need more names
WRITING = 0.7  # the share of the time that rows take; indexes, constraints and VACUUM take the rest

_TABLES = "users, customers, pillars, tasks, time_bills, time_entries"
# Indexes and foreign keys make a million rows four times slower. They are dropped and created again from the finished rows.
# Unique indexes stay.
_DROPPABLE = """
    SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), 1 AS step
    FROM pg_index
    WHERE indrelid IN ('time_bills'::regclass, 'time_entries'::regclass) AND NOT indisunique AND NOT indisexclusion
    UNION ALL
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), 2
    FROM pg_constraint
    WHERE conrelid IN ('time_bills'::regclass, 'time_entries'::regclass) AND contype = 'f'
    ORDER BY step, 1
"""


@dataclass(frozen=True)
class Filled:
    """What was created, and examples: an admin, and a consultant with the first and last day of a typical month."""

    admin_email: str
    consultant_id: UUID
    consultant_email: str
    month_first: date
    month_last: date
    first_day: date  # with entries
    last_day: date
    entries: int
    bills: int
    customers: int
    consultants: int
    tasks: int


def run(args: argparse.Namespace) -> int:
    """Creates `args.entries` time entries and everything that they need, and prints what can be looked at."""
    # Ctrl-C during a COPY closes the connection, which undoes everything: psycopg's warning of a missing rollback is useless
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    filled = asyncio.run(_demo(args.entries, args.consultants, settings()))
    state = "" if args.state == DEFAULT else f" --state {shlex.quote(str(args.state))}"
    url = os.environ.get("PUBLIC_URL") or "http://127.0.0.1:8000"
    month = f"userId={filled.consultant_id}&startDate={filled.month_first}&endDate={filled.month_last}"
    print(
        f"{filled.entries:,} time entries of {filled.consultants:,} consultants, from {filled.first_day} to {filled.last_day},"
        f" on {filled.bills:,} time bills; {filled.customers:,} customers with {filled.tasks:,} tasks.\n"
        f"{filled.admin_email} is an admin. A month of {filled.consultant_email}, who is a consultant:\n\n"
        f"  TOKEN=$(./stint token --role internal_admin --email {filled.admin_email}{state})\n"
        f"  curl -H \"Authorization: Bearer $TOKEN\" '{url}/api/time-entries?{month}'"
    )
    return 0


async def _demo(entries: int, consultants: int | None, settings: Settings) -> Filled:
    async with await connect(settings) as conn:
        with progress("writing time entries", total=entries) as update:
            rules = EntryRules.of(settings)
            return await fill(conn, entries=entries, consultants=consultants, rules=rules, update=update)


async def fill(
    conn: Connection, *, entries: int, rules: EntryRules, consultants: int | None = None, update: Update | None = None
) -> Filled:
    """Creates a firm with exactly that many time entries, up to yesterday in the firm's time zone, in one transaction. Then
    vacuums. Its rows are what the product would have written. Without `consultants` there are as many as have that number of
    entries in a year. If it is connected to the sandbox for Xero, customers have projects there, and approved bills are queued.

    The tables are locked in the meantime, so the API answers 503. Raises CommandError in an installation that has customers
    or entries, that another demo is filling, or that is connected to the real Xero.
    """
    if entries > MOST_ENTRIES:
        raise CommandError(f"A demo has {MOST_ENTRIES:,} time entries at most.")
    size = Size.of(entries, consultants)
    least = -(-entries // ENTRIES_A_YEAR)
    if consultants and not least <= consultants <= entries:
        raise CommandError(f"{entries:,} time entries need {least:,} consultants or more, and {entries:,} at most.")
    update = update or _ignore_progress
    async with conn.transaction():
        await _lock_empty_installation(conn)
        create_statements = await _drop_indexes(conn)
        projects = await follow_ups.find_projects(conn)
        firm = await _write(conn, size, rules, update, projects)
        for step, statement in enumerate(create_statements):
            update(entries * (WRITING + (1 - WRITING) * step / (len(create_statements) + 2)), entries)
            await conn.execute(statement)
        await follow_ups.enqueue_syncs(conn)
    await _vacuum(conn)
    update(entries, entries)
    return await _summarize(conn, firm)


async def _lock_empty_installation(conn: Connection) -> None:
    """Locks the tables until the transaction ends, so that they stay empty for others."""
    await conn.execute("SET LOCAL statement_timeout = 0")
    await conn.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
    if not await conn.value("SELECT pg_try_advisory_xact_lock(hashtextextended('stint demo', 0))"):
        raise CommandError("Another demo is filling this installation at the moment; use that one when it is done.")
    await _check_empty(conn)
    try:
        await conn.execute(f"LOCK TABLE {_TABLES} IN ACCESS EXCLUSIVE MODE")
    except LockNotAvailable:
        raise CommandError("Other transactions have locked the tables of this installation; try again in a moment.") from None
    await _check_empty(conn)  # again: rows may have been added while this waited for the lock


async def _check_empty(conn: Connection) -> None:
    if await conn.value("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM time_entries)"):
        raise CommandError(
            "This installation has customers already, and demo data never mixes with them: start another installation with"
            " `./stint up --state DIR --port N`, then `./stint demo --state DIR`."
        )


async def _drop_indexes(conn: Connection) -> list[str]:
    """Drops the indexes and constraints that are faster to create at the end, and returns the statements that create them. The
    transaction commits with all of them in force and checked, or changes nothing."""
    rows = await conn.all(_DROPPABLE)
    for drop, _, _ in rows:
        await conn.execute(drop)
    return [create for _, create, _ in rows]


async def _write(conn: Connection, size: Size, rules: EntryRules, update: Update, projects: list[Project]) -> Firm:
    rng = random.Random(SEED)  # noqa: S311 - nothing here is secret
    now, xid, addresses = await conn.one(
        "SELECT now(), pg_current_xact_id()::text::bigint, array(SELECT email_key(email) FROM users)"
    )
    days = calendar(rules.zone, now.astimezone(ZoneInfo(rules.zone)).date(), size.days)
    firm = FirmBuilder(rng, size, days[0].date, days[-1].date, taken=set(addresses), projects=projects).firm()
    for table, rows in firm.rows.items():
        async with conn.cursor() as writing, writing.copy(f"COPY {table} FROM STDIN") as copy:
            for one in rows:
                await copy.write_row(one)
    # A trigger would set updated_at to now, which is after the approval of the entry's bill; others look for overlaps, of which
    # there are none.
    for table in ("time_bills", "time_entries"):
        await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    planner = HoursPlanner(rng, days, firm.admins, xid=xid, long_seconds=rules.long_seconds, connected=bool(projects))
    each, more = divmod(size.entries, size.consultants)
    for number, consultant in enumerate(firm.consultants):
        planner.plan(consultant, firm.areas_of(consultant), each + (number < more))
    await _write_hours(conn, planner.hours(), size, update)
    for table in ("time_bills", "time_entries"):
        await conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    await follow_ups.write_stops(conn)
    await follow_ups.start_timers(conn, firm, days[-1].date, rng)
    return firm


async def _write_hours(conn: Connection, batches: Iterator[Hours], size: Size, update: Update) -> None:
    """Writes one batch while a thread creates the next one."""
    written = 0
    hours = await asyncio.to_thread(next, batches, None)
    while hours is not None:
        following = asyncio.create_task(asyncio.to_thread(next, batches, None))
        await _copy(conn, BILLS, hours.bills)
        await _copy(conn, ENTRIES, hours.entries)
        written += len(hours.entries)
        update(written * WRITING, size.entries)
        hours = await following


async def _copy(conn: Connection, table: str, rows: Iterable[bytes]) -> None:
    async with conn.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        await copy.write(binary(rows))


async def _vacuum(conn: Connection) -> None:
    """Updates the statistics and the visibility map: without them, lists are slow for the first minutes."""
    limit = await conn.value("SELECT current_setting('statement_timeout')")
    await conn.execute("SET statement_timeout = 0")
    await conn.execute(f"VACUUM (ANALYZE) {_TABLES}, timers")
    await conn.execute("SELECT set_config('statement_timeout', %s, false)", (limit,))


async def _summarize(conn: Connection, firm: Firm) -> Filled:
    first, last, entries, bills, customers, tasks = await conn.one(
        """
        SELECT min(date), max(date), count(*), (SELECT count(*) FROM time_bills), (SELECT count(*) FROM customers),
               (SELECT count(*) FROM tasks)
        FROM time_entries
        """
    )
    month_last = last.replace(day=1) - timedelta(days=1)
    if (month_first := month_last.replace(day=1)) < first:  # too few entries for a whole month
        month_first, month_last = first, last
    typical = await conn.value(
        """
        SELECT user_id FROM time_entries WHERE date BETWEEN %s AND %s
        GROUP BY user_id ORDER BY abs(count(*) - %s), user_id LIMIT 1
        """,
        (month_first, month_last, ENTRIES_A_YEAR // 12),
    )
    consultant: Person = next(person for person in firm.consultants if person.id == typical)
    return Filled(
        firm.admins[0].email, consultant.id, consultant.email, month_first, month_last, first, last, entries, bills, customers,
        len(firm.consultants), tasks,
    )  # fmt: skip


def _ignore_progress(done: float, total: float | None = None, *, what: str | None = None) -> None:
    pass
