"""Each migration runs on a database of the version before it, with rows in it, and keeps them."""

import asyncio
import secrets

import psycopg
import pytest

from schemas.migrate import MIGRATIONS, migrate
from tests.installation import with_database

NAMES = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]
# a bit of everything, in the columns that the first version has
ROWS = """
WITH someone AS (INSERT INTO users (id, email, name, role) VALUES (gen_random_uuid(), 'a@example.com', 'A', 'internal_admin')
                 RETURNING id),
customer AS (INSERT INTO customers (id, name, created_from, created_by) SELECT gen_random_uuid(), 'Acme', '', id FROM someone
             RETURNING id),
pillar AS (INSERT INTO pillars (id, customer_id, name, is_default) SELECT gen_random_uuid(), id, 'General Support', true
           FROM customer RETURNING id, customer_id),
task AS (INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
         SELECT gen_random_uuid(), 'Mend it', p.customer_id, p.id, '', s.id FROM pillar p, someone s RETURNING id),
bill AS (INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode)
         SELECT s.id, p.customer_id, p.id, '2026-03-02', 3600, 15, 'up' FROM pillar p, someone s RETURNING id),
entry AS (INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id)
          SELECT gen_random_uuid(), t.id, s.id, p.customer_id, p.id, '2026-03-02T09:00:00Z', '2026-03-02T10:00:00Z',
                 '2026-03-02', b.id FROM task t, someone s, pillar p, bill b RETURNING id),
timer AS (INSERT INTO timers (user_id, id, task_id, start_time) SELECT s.id, gen_random_uuid(), t.id, '2026-03-03T09:00:00Z'
          FROM someone s, task t),
message AS (INSERT INTO messages (id, actor, queue, body, allowance) VALUES (gen_random_uuid(), 'stop_timer', 'timers', '{}', 5)
            RETURNING id)
INSERT INTO stops (user_id, task_id, entry_id, message_id, start_time, end_time)
SELECT s.id, t.id, e.id, m.id, '2026-03-02T09:00:00Z', '2026-03-02T10:00:00Z' FROM someone s, task t, entry e, message m
"""
TABLES = ("users", "customers", "pillars", "tasks", "time_bills", "time_entries", "timers", "messages", "stops")


def database_at(database_url: str, number: int, rows: str) -> str:
    """The URL of a database that has so many migrations, and then these rows."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    url = with_database(database_url, name)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())")
        for before in NAMES[:number]:
            conn.execute((MIGRATIONS / f"{before}.sql").read_bytes())
            conn.execute("INSERT INTO migrations (name) VALUES (%s)", (before,))
        conn.execute(rows.encode())
    return url


@pytest.mark.parametrize("number", range(1, len(NAMES)))
def test_a_migration_keeps_the_rows_of_the_version_before_it(number: int, database_url: str) -> None:
    url = database_at(database_url, number, ROWS)

    assert asyncio.run(migrate(url)) == NAMES[number:]

    with psycopg.connect(url) as conn:
        for table in TABLES:
            assert conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,), table
        assert conn.execute("SELECT seconds, minutes FROM time_bills").fetchone() == (3600, 60)
    assert asyncio.run(migrate(url)) == []


def test_who_had_discarded_a_foreign_letter_is_kept_and_nobody_is_told_of_old_ones(database_url: str) -> None:
    letters = """
        INSERT INTO foreign_letters (queue, reason, body, headers, discarded_at, discarded_by, discarded_because) VALUES
            ('timers', 'a stranger', 'x', '{}', '2026-03-02T09:00:00Z', 'jo', 'not ours'),
            ('timers', 'a stranger', 'y', '{}', NULL, NULL, NULL)
    """
    url = database_at(database_url, NAMES.index("0010_letters"), letters)
    asyncio.run(migrate(url))
    with psycopg.connect(url) as conn:
        events = """
            SELECT e.who, e.action, e.reason, e.at = l.discarded_at
            FROM foreign_letter_events e JOIN foreign_letters l ON l.id = e.letter_id
        """
        assert conn.execute(events).fetchall() == [("jo", "discard", "not ours", True)]
        assert conn.execute("SELECT queue, reason, told_at IS NOT NULL FROM foreign_groups").fetchall() == [
            ("timers", "a stranger", True)
        ]
