"""Statements on many rows read each row a few times at most, also when their connection has used them while the tables were
nearly empty, and nobody has analyzed the tables since."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from schemas.hours import batch_approval, bill_sums, entry_moves, time_entries, timer_stops, timers
from schemas.hours.batch_approval import BatchApproval
from schemas.hours.bill_sums import BillKey
from schemas.hours.recompute import chunks
from schemas.identity.users import Role, User
from schemas.messages import QueueBills, Recompute, StopTimer
from schemas.postgres.connection import Connection, connect
from schemas.settings import Settings
from schemas.xero import backlog
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

ROWS = """
    WITH bill AS (
        INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
        SELECT %(user)s, %(customer)s, %(pillar)s, '2010-01-01'::date + number, 1, 'nearest'
        FROM generate_series(%(first)s::int, %(last)s::int) number RETURNING id, date)
    INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id)
    SELECT gen_random_uuid(), %(task)s, %(user)s, %(customer)s, %(pillar)s, date + hour * interval '1 hour',
           date + (hour + 1) * interval '1 hour', date, CASE WHEN %(billed)s THEN id END
    FROM bill, generate_series(8, 12) hour
"""
BEFORE, BILLS, ENTRIES = 3, 3_000, 15_000
# of a firm with as many people, each with a timer, a stop and its message
PEOPLE = """
    WITH person AS (
        INSERT INTO users (id, email, name, role)
        SELECT id, id || '@example.com', 'Jo', 'internal_user'
        FROM (SELECT gen_random_uuid() AS id FROM generate_series(%(first)s::int, %(last)s::int)) AS new RETURNING id
    ), timer AS (
        INSERT INTO timers (user_id, id, task_id, start_time) SELECT id, gen_random_uuid(), %(task)s, '2010-01-01' FROM person
    ), stop AS (
        INSERT INTO stops (user_id, task_id, entry_id, message_id, start_time, end_time)
        SELECT id, %(task)s, gen_random_uuid(), gen_random_uuid(), '2010-01-01', '2010-01-01' FROM person RETURNING message_id
    )
    INSERT INTO messages (id, actor, queue, body, max_attempts, state, done_at)
    SELECT message_id, 'stop_timer', 'timers', '{}', 5, 'done', now() FROM stop
"""
TABLES = ("users", "timers", "stops", "messages", "time_bills", "time_entries")
READ = """
    SELECT relname::text, (seq_tup_read + coalesce(idx_tup_fetch, 0))::int FROM pg_stat_xact_user_tables WHERE relname = ANY(%s)
"""
ONE = 100  # rows that work on one timer or bill may read
Work = Callable[[Connection, FirmRows, Settings], Awaitable[None]]


async def recalculate(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    ids = await conn.values("SELECT id FROM time_bills ORDER BY date DESC LIMIT 100")
    await conn.execute("UPDATE time_bills SET stale = true WHERE id = ANY(%s)", (ids,))
    await bill_sums.recalculate(conn, ids)


async def recompute(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    job: UUID = await conn.value("INSERT INTO recompute_jobs (dry_run) VALUES (false) RETURNING id")
    await chunks.process_chunk(conn, Recompute(job_id=job, phase="bills"))


async def predict(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    job: UUID = await conn.value("INSERT INTO recompute_jobs (dry_run) VALUES (true) RETURNING id")
    await chunks.process_chunk(conn, Recompute(job_id=job, phase="bills"))


async def bill_entries(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    await conn.execute("UPDATE time_entries SET bill_id = NULL WHERE date > (SELECT max(date) FROM time_entries) - 100")
    job: UUID = await conn.value("INSERT INTO recompute_jobs (dry_run) VALUES (false) RETURNING id")
    await chunks.process_chunk(conn, Recompute(job_id=job, phase="entries"))


async def approve(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    ids = await conn.values("SELECT id FROM time_bills WHERE deleted_at IS NULL ORDER BY date DESC LIMIT 500")
    await conn.execute("UPDATE time_bills SET stale = true WHERE id = ANY(%s)", (ids,))
    body = BatchApproval.model_validate({"bills": [{"id": bill_id, "version": 1} for bill_id in ids]})
    admin = User(id=rows.user, email="", name="", role=Role.admin, customer_id=None)
    await batch_approval.approve_all(conn, body, by=admin, zone="UTC")


async def move(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    other = await firm_rows.firm(conn, by=rows.user, name="Other")
    await conn.execute(
        "UPDATE tasks SET customer_id = %s, pillar_id = %s WHERE id = %s", (other.customer, other.pillar, rows.task)
    )
    await entry_moves.move_chunk(conn, rows.task)


async def queue(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    await conn.execute(
        "UPDATE time_bills SET status = 'approved', approved_by = user_id, approved_at = now(), approved_seconds = 0, "
        "xero_status = 'not_connected'"
    )
    await backlog.queue_next_chunk(conn, QueueBills(because="connected"), settings)


async def start_and_stop(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    """What a start, a stop and its handler call."""
    by = await firm_rows.user(conn)
    await timers.start(conn, rows.task, user_id=by.id)
    receipt = await timer_stops.stop_now(conn, rows.task, user_id=by.id)
    assert receipt is not None
    sent = "UPDATE messages SET state = 'sent', delivery_number = 1, sent_at = now() WHERE id = %s"
    await conn.execute(sent, (receipt.message_id,), prepare=False)
    assert await time_entries.handle_stop(conn, receipt.message_id, 1, queue=StopTimer.queue, zone="UTC")


async def sum_one(conn: Connection, rows: FirmRows, settings: Settings) -> None:
    """What late time for a bill calls."""
    key = BillKey(rows.user, rows.customer, rows.pillar, date(2010, 1, 2))
    await bill_sums.recalculate(conn, [await bill_sums.ensure_open_bill(conn, key)])


WORK = [recalculate, recompute, predict, bill_entries, approve, move, queue]


def rows_read(work: Work, database_url: str, *, analyzed: bool) -> dict[str, int]:
    """How many rows of each table the work reads after all have grown. `analyzed`: Postgres knew that they were small when it
    made the plans; otherwise it knew nothing."""
    url = new_database(database_url)
    settings = Settings(database_url=url, secret_key=SecretStr(SECRET_KEY))

    async def run() -> dict[str, int]:
        conn = await connect(settings)
        try:
            await firm_rows.connect_xero(conn)
            rows = await firm_rows.firm(conn)
            for table in TABLES:
                await conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            for table in ("users", "timers", "time_bills", "time_entries"):
                await conn.execute(f"ALTER TABLE {table} ALTER changed_xid SET DEFAULT '3'")  # a trigger sets it otherwise
            fill = vars(rows) | {"billed": True}
            await conn.execute(ROWS, fill | {"first": 1, "last": BEFORE})
            await conn.execute(PEOPLE, fill | {"first": 1, "last": BEFORE})
            if analyzed:
                await conn.execute("ANALYZE")
            for _ in range(12):  # a plan without values is tried from the sixth time on
                async with conn.transaction(force_rollback=True):
                    await work(conn, rows, settings)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SET session_replication_role = replica")  # without triggers: no entry overlaps another one
                for statement in (ROWS, PEOPLE):
                    other.execute(statement.encode(), fill | {"first": BEFORE + 1, "last": BILLS})
            async with conn.transaction(force_rollback=True):
                before = dict(await conn.all(READ, (list(TABLES),)))  # of the times before
                await work(conn, rows, settings)
                return {table: count - before[table] for table, count in await conn.all(READ, (list(TABLES),))}
        finally:
            await conn.close()

    return asyncio.run(run())


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_no_row_is_read_again_and_again_after_the_tables_have_grown(work: Work, database_url: str) -> None:
    read = rows_read(work, database_url, analyzed=False)
    assert read["time_bills"] + read["time_entries"] <= 20 * (BILLS + ENTRIES), read


@pytest.mark.parametrize("work", [start_and_stop, sum_one], ids=lambda work: work.__name__)
def test_a_function_reads_a_few_rows_though_its_plan_is_of_small_tables(work: Work, database_url: str) -> None:
    read = rows_read(work, database_url, analyzed=True)
    assert sum(read.values()) <= ONE, read
