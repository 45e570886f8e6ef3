"""`./stint demo`: fills an empty installation with a believable firm, so that there is something to look at and to measure."""

import argparse
import asyncio
import logging
import os
import random
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg.errors import LockNotAvailable

from ops.demo_firm import ENTRIES_A_YEAR, Firm, Founding, Person, Size, new_id
from ops.demo_hours import BILLS, ENTRIES, Diary, Hours, binary, calendar
from ops.errors import CommandError
from ops.progress import At, progress
from ops.state import DEFAULT
from schemas.database import Connection, connect
from schemas.settings import Settings, settings

SEED = 20  # the same firm every time; only its days follow today's
MOST_ENTRIES = 5_000_000  # more would need more names
WRITING = 0.7  # of the time goes into rows, the rest into what follows them

_TABLES = "users, customers, pillars, tasks, time_bills, time_entries"
# What slows a million rows down fourfold, and is made again from the finished rows. Unique indexes stay.
_SET_ASIDE = """
    SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), 1 AS turn
    FROM pg_index
    WHERE indrelid IN ('time_bills'::regclass, 'time_entries'::regclass) AND NOT indisunique AND NOT indisexclusion
    UNION ALL
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), 2
    FROM pg_constraint
    WHERE conrelid IN ('time_bills'::regclass, 'time_entries'::regclass) AND contype = 'f'
    ORDER BY turn, 1
"""


@dataclass(frozen=True)
class Filled:
    """What was made, and where to look: an admin, and a consultant with the days of a typical month."""

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
    """Makes `args.entries` time entries, and all that they need; says what there is to see."""
    # Ctrl-C in a COPY ends the connection, and with it all that was written: that no rollback came first is no news
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    filled = asyncio.run(_demo(args.entries, settings()))
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


async def _demo(entries: int, given: Settings) -> Filled:
    long_seconds = given.stint_long_hours * 3_600
    async with await connect(given) as conn:
        with progress("writing time entries", total=entries) as at:
            return await fill(conn, entries=entries, zone=given.stint_timezone, at=at, long_seconds=long_seconds)


async def fill(conn: Connection, *, entries: int, zone: str, at: At | None = None, long_seconds: float = 12 * 3_600) -> Filled:
    """Makes a firm with exactly that many time entries, up to yesterday in `zone`: all of it or nothing. Then vacuums.

    Nobody else gets at the tables meanwhile: an API on them answers 503. Raises CommandError in an installation that has
    customers or entries, or that another demo is filling.
    """
    if entries > MOST_ENTRIES:
        raise CommandError(f"A demo has {MOST_ENTRIES:,} time entries at most.")
    at = at or _nobody_looks
    async with conn.transaction():
        await _hold_an_empty_installation(conn)
        again = await _set_aside(conn)
        firm = await _write(conn, Size.of(entries), zone, at, long_seconds)
        for step, statement in enumerate(again):
            at(entries * (WRITING + (1 - WRITING) * step / (len(again) + 2)), entries)
            await conn.execute(statement.encode())
    await _vacuum(conn)
    at(entries, entries)
    return await _filled(conn, firm)


async def _hold_an_empty_installation(conn: Connection) -> None:
    """Keeps everybody else out of the tables until the end, so that what is found empty stays so."""
    await conn.execute("SET LOCAL statement_timeout = 0")
    await conn.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
    if not await _one(conn, "SELECT pg_try_advisory_xact_lock(hashtextextended('stint demo', 0))"):
        raise CommandError("Another demo is filling this installation right now; look at that one when it is done.")
    await _refuse_what_is_real(conn)
    try:
        await conn.execute(f"LOCK TABLE {_TABLES} IN ACCESS EXCLUSIVE MODE".encode())
    except LockNotAvailable:
        raise CommandError("Others are at work in this installation and keep its tables; try again in a moment.") from None
    await _refuse_what_is_real(conn)  # that came while this waited


async def _refuse_what_is_real(conn: Connection) -> None:
    if await _one(conn, "SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM time_entries)"):
        raise CommandError(
            "This installation has customers already, and a demo never mixes with them: give it one of its own with"
            " `./stint up --state DIR --port N`, then `./stint demo --state DIR`."
        )


async def _set_aside(conn: Connection) -> list[str]:
    """Drops what is quicker made at the end, and returns the statements that do so. The transaction ends with all of it in
    force and checked, or changes nothing."""
    cursor = await conn.execute(_SET_ASIDE.encode())
    rows = await cursor.fetchall()
    for drop, _, _ in rows:
        await conn.execute(drop.encode())
    return [create for _, create, _ in rows]


async def _write(conn: Connection, size: Size, zone: str, at: At, long_seconds: float) -> Firm:
    rng = random.Random(SEED)  # noqa: S311 - nothing here is secret
    cursor = await conn.execute("SELECT now(), pg_current_xact_id()::text::bigint, array(SELECT lower(email) FROM users)")
    row = await cursor.fetchone()
    assert row is not None
    now, xid, addresses = row
    days = calendar(zone, now.astimezone(ZoneInfo(zone)).date(), size.days)
    firm = Founding(rng, size, days[0].date, days[-1].date, taken=set(addresses)).firm()
    for table, rows in firm.rows.items():
        async with conn.cursor() as writing, writing.copy(f"COPY {table} FROM STDIN".encode()) as copy:
            for one in rows:
                await copy.write_row(one)
    # the trigger would say that an entry changed now, after the approval of its bill
    for table in ("time_bills", "time_entries"):
        await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER touch".encode())
    diary = Diary(rng, days, firm.admins, xid=xid, long_seconds=long_seconds)
    each, more = divmod(size.entries, size.consultants)
    for number, consultant in enumerate(firm.consultants):
        diary.plan(consultant, firm.areas_of(consultant), each + (number < more))
    await _write_hours(conn, diary.hours(), size, at)
    for table in ("time_bills", "time_entries"):
        await conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER touch".encode())
    await _start_timers(conn, firm, days[-1].date, rng)
    return firm


async def _write_hours(conn: Connection, batches: Iterator[Hours], size: Size, at: At) -> None:
    """While Postgres takes one batch in, the next is made in a thread."""
    written = 0
    hours = await asyncio.to_thread(next, batches, None)
    while hours is not None:
        following = asyncio.create_task(asyncio.to_thread(next, batches, None))
        await _copy(conn, BILLS, hours.bills)
        await _copy(conn, ENTRIES, hours.entries)
        written += len(hours.entries)
        at(written * WRITING, size.entries)
        hours = await following


async def _copy(conn: Connection, table: str, rows: Iterable[bytes]) -> None:
    async with conn.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy:
        await copy.write(binary(rows))


async def _start_timers(conn: Connection, firm: Firm, day: date, rng: random.Random) -> None:
    """Three people are at work."""
    for consultant in firm.consultants[:3]:
        task_id = rng.choice(rng.choice(firm.areas_of(consultant)).current(day))
        await conn.execute(
            """
            INSERT INTO timers (user_id, id, task_id, start_time)
            VALUES (%s, %s, %s, date_trunc('second', now() - make_interval(secs => %s)))
            """,
            (consultant.id, new_id(rng), task_id, rng.randint(240, 3_000)),
        )


async def _vacuum(conn: Connection) -> None:
    """Brings the statistics and the visibility map up to date: without them lists are slow for the first minutes."""
    limit = await _one(conn, "SELECT current_setting('statement_timeout')")
    await conn.execute("SET statement_timeout = 0")
    await conn.execute(f"VACUUM (ANALYZE) {_TABLES}, timers".encode())
    await conn.execute("SELECT set_config('statement_timeout', %s, false)", (limit,))


async def _filled(conn: Connection, firm: Firm) -> Filled:
    cursor = await conn.execute(
        """
        SELECT min(date), max(date), count(*), (SELECT count(*) FROM time_bills), (SELECT count(*) FROM customers),
               (SELECT count(*) FROM tasks)
        FROM time_entries
        """
    )
    row = await cursor.fetchone()
    assert row is not None
    first, last, entries, bills, customers, tasks = row
    month_last = last.replace(day=1) - timedelta(days=1)
    if (month_first := month_last.replace(day=1)) < first:  # too few entries for a whole month
        month_first, month_last = first, last
    typical = await _one(
        conn,
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


async def _one(conn: Connection, query: str, parameters: Any = None) -> Any:
    cursor = await conn.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


def _nobody_looks(done: float, total: float | None = None, *, what: str | None = None) -> None:
    pass
