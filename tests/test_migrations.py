"""Each migration runs on a database of the version before it and keeps its rows; a database of an unknown version is
refused."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from schemas.postgres import connection
from schemas.postgres import migrate as module
from schemas.postgres.migrate import MIGRATIONS, WrongVersion, check_version, migrate
from tests.support.installation import CHECKOUT, eventually, free_port, new_database, with_database
from tests.support.up import command

NAMES = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]
# what the thirteen migrations before version 0.2.0 were called
BEFORE_0_2_0 = ["0001_foundation", "0002_the_rest_of_the_hours", "0013_slack_places"]
# one row of each kind, in the columns of 0001_schema
ROWS = """
WITH someone AS (INSERT INTO users (id, email, name, role) VALUES (gen_random_uuid(), 'a@example.com', 'A', 'internal_admin')
                 RETURNING id),
customer AS (INSERT INTO customers (id, name, created_from, created_by) SELECT gen_random_uuid(), 'Acme', '', id FROM someone
             RETURNING id),
pillar AS (INSERT INTO pillars (id, customer_id, name, is_default) SELECT gen_random_uuid(), id, 'General Support', true
           FROM customer RETURNING id, customer_id),
task AS (INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
         SELECT gen_random_uuid(), 'Fix it', p.customer_id, p.id, '', s.id FROM pillar p, someone s RETURNING id),
bill AS (INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode)
         SELECT s.id, p.customer_id, p.id, '2026-03-02', 3600, 15, 'up' FROM pillar p, someone s RETURNING id),
entry AS (INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id)
          SELECT gen_random_uuid(), t.id, s.id, p.customer_id, p.id, '2026-03-02T09:00:00Z', '2026-03-02T10:00:00Z',
                 '2026-03-02', b.id FROM task t, someone s, pillar p, bill b RETURNING id),
timer AS (INSERT INTO timers (user_id, id, task_id, start_time) SELECT s.id, gen_random_uuid(), t.id, '2026-03-03T09:00:00Z'
          FROM someone s, task t),
message AS (INSERT INTO messages (id, actor, queue, body, max_attempts)
            VALUES (gen_random_uuid(), 'stop_timer', 'timers', '{}', 5)
            RETURNING id)
INSERT INTO stops (user_id, task_id, entry_id, message_id, start_time, end_time)
SELECT s.id, t.id, e.id, m.id, '2026-03-02T09:00:00Z', '2026-03-02T10:00:00Z' FROM someone s, task t, entry e, message m
"""
TABLES = ("users", "customers", "pillars", "tasks", "time_bills", "time_entries", "timers", "messages", "stops")


@pytest.fixture
def empty(database_url: str) -> str:
    """The URL of a new database without any table."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        name = f"empty_{threading.get_native_id()}_{conn.info.backend_pid}"
        conn.execute(f"CREATE DATABASE {name}".encode())
    return with_database(database_url, name)


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as conn:
        return [name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]


def with_names(url: str, *names: str) -> str:
    """The database, after these migrations were applied to it, going by its table `migrations`."""
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())")
        for name in names:
            conn.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
    return url


def test_migrations_are_numbered_without_gaps_and_named_after_what_they_do() -> None:
    numbers = [int(name[:4]) for name in NAMES]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(re.fullmatch(r"[0-9]{4}_[a-z0-9]+(_[a-z0-9]+)*", name) for name in NAMES), NAMES


def test_each_migration_keeps_the_rows_of_the_version_before_it(empty: str, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
        assert asyncio.run(migrate(empty, folder=tmp_path)) == [name]
        with psycopg.connect(empty) as conn:
            if number == 0:
                conn.execute(ROWS.encode())
            for table in TABLES:
                assert conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,), (name, table)
            assert conn.execute("SELECT seconds, minutes FROM time_bills").fetchone() == (3600, 60), name
    assert set(asyncio.run(migrate(empty))).isdisjoint(NAMES)  # only the SQL functions
    assert asyncio.run(migrate(empty)) == []


FLAGS_OF_UNRELEASED_VERSIONS = """
CREATE FUNCTION set_entry_flags() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.flags := '{overlap}'; RETURN NEW; END $$;
CREATE TRIGGER set_flags BEFORE INSERT ON time_entries FOR EACH ROW EXECUTE FUNCTION set_entry_flags();
CREATE FUNCTION overlapping_entries(whose uuid, starts timestamptz, ends timestamptz) RETURNS TABLE (id uuid, flags text[])
LANGUAGE sql STABLE AS $$ SELECT e.id, e.flags FROM time_entries e $$;
CREATE INDEX time_entries_overlapping ON time_entries (start_time, id) WHERE 'overlap' = ANY (flags);
"""


@pytest.fixture
def before_flags(empty: str, tmp_path: Path) -> str:
    """A database of the version before the flags `overlap`, with one row of each kind."""
    for name in NAMES[: NAMES.index("0008_overlap_column")]:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    asyncio.run(migrate(empty, folder=tmp_path))
    with psycopg.connect(empty) as conn:
        conn.execute(ROWS.encode())
    return empty


def add_entry(conn: psycopg.Connection, start: int, length: int, flags: str = "{}") -> None:
    """An entry of the one user that starts and lasts these minutes."""
    conn.execute(
        """
        INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, flags)
        SELECT gen_random_uuid(), task_id, user_id, customer_id, pillar_id,
            t, t + make_interval(mins => %s), t::date, %s::text[]
        FROM time_entries, LATERAL (SELECT '2026-04-02T00:00:00Z'::timestamptz + make_interval(mins => %s) AS t) AS at
        WHERE bill_id IS NOT NULL
        """,
        (length, flags, start),
    )


# Entries that overlap none: (start, length) in minutes. Of the second pair one is another user's, of the third one is deleted.
TOUCHING = [(11000, 60), (11060, 60), (10940, 60), (11120, 0)]
ALONE = [(12000, 60), (12010, 10), (13000, 60), (13010, 10)]
MOVED_AND_DELETED = """
    INSERT INTO users (id, email, name, role) VALUES (gen_random_uuid(), 'b@example.com', 'B', 'internal_user');
    UPDATE time_entries SET user_id = (SELECT id FROM users WHERE name = 'B')
    WHERE start_time = '2026-04-02Z'::timestamptz + interval '12010 minutes';
    UPDATE time_entries SET deleted_at = now() WHERE start_time = '2026-04-02Z'::timestamptz + interval '13010 minutes';
"""


def minutes_with(conn: psycopg.Connection, condition: str) -> list[int]:
    query = f"SELECT extract(epoch FROM start_time - '2026-04-02Z')::int / 60 FROM time_entries WHERE {condition}"
    return sorted(minute for (minute,) in conn.execute(query.encode()))


OTHER_ROWS = "SELECT id, updated_at, version, end_time, notes FROM time_entries ORDER BY id"


@pytest.mark.parametrize("unreleased", [False, True])
def test_entries_of_the_version_before_get_true_flags(unreleased: bool, before_flags: str) -> None:
    minutes = [(0, 60), (30, 40), (120, 10), (125, 0), (200, 0), (200, 0), (300, 2000), (900, 1), (5000, 3)]
    with psycopg.connect(before_flags) as conn:
        if unreleased:
            conn.execute(FLAGS_OF_UNRELEASED_VERSIONS)
        for start, length in minutes:
            add_entry(conn, start, length)
        add_entry(conn, 6000, 10, "{long}")  # was corrected
        add_entry(conn, 7000, 361, "{long}")
        add_entry(conn, 8000, 361)  # by hand
        add_entry(conn, 9000, 360)
        for start, length in TOUCHING + ALONE:
            add_entry(conn, start, length)
        conn.execute(MOVED_AND_DELETED)
        before = conn.execute(OTHER_ROWS).fetchall()
    asyncio.run(migrate(before_flags, long_hours=6))
    with psycopg.connect(before_flags) as conn:
        assert conn.execute(OTHER_ROWS).fetchall() == before
        assert minutes_with(conn, "overlap") == [0, 30, 120, 125, 300, 900]
        assert minutes_with(conn, "flags = '{long}'") == [300, 7000, 8000]
        assert minutes_with(conn, "flags NOT IN ('{long}', '{}') AND deleted_at IS NULL") == []


@pytest.mark.parametrize("applied", [1, 2], ids=["before 0009", "before 0010"])
def test_entries_that_are_written_while_the_migration_looks_get_the_flag(
    applied: int, before_flags: str, tmp_path: Path
) -> None:
    with psycopg.connect(before_flags) as conn:
        for start in (0, 5000, 5030):
            add_entry(conn, start, 60)
    for name in NAMES[NAMES.index("0008_overlap_column") :][:applied]:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    asyncio.run(migrate(before_flags, folder=tmp_path))
    with psycopg.connect(before_flags) as writer:
        add_entry(writer, 30, 60)
        moved = "'2026-04-02Z'::timestamptz + interval '5030 minutes'"
        writer.execute(
            f"""
            UPDATE time_entries SET start_time = start_time + interval '1 day', end_time = end_time + interval '1 day'
            WHERE start_time = {moved}
            """.encode()
        )
        add_entry(writer, 2000, 1000)

        def commit_when_the_migration_waits() -> None:
            with psycopg.connect(before_flags, autocommit=True) as conn:
                waits = """
                    SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE d.datname = current_database() AND mode = 'ShareRowExclusiveLock' AND NOT granted
                """
                eventually(lambda: conn.execute(waits).fetchone() == (1,), why="the migration waits")
            writer.commit()

        thread = threading.Thread(target=commit_when_the_migration_waits)
        thread.start()
        asyncio.run(migrate(before_flags))
        thread.join()
    with psycopg.connect(before_flags) as conn:
        assert minutes_with(conn, "overlap") == [0, 30]
        assert minutes_with(conn, "flags = '{long}'") == [2000]


def test_an_approved_bill_without_its_seconds_gets_them(empty: str, tmp_path: Path) -> None:
    for name in NAMES[: NAMES.index("0012_approved_seconds")]:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    asyncio.run(migrate(empty, folder=tmp_path))
    with psycopg.connect(empty) as conn:
        conn.execute(ROWS.encode())
        conn.execute("UPDATE time_bills SET status = 'approved', approved_at = now(), approved_by = user_id")
    asyncio.run(migrate(empty))
    with psycopg.connect(empty) as conn:
        assert conn.execute("SELECT approved_seconds FROM time_bills").fetchone() == (3600,)
        assert conn.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)


def test_pillars_that_become_twins_get_a_number(empty: str, tmp_path: Path) -> None:
    for name in NAMES[: NAMES.index("0006_names")]:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    asyncio.run(migrate(empty, folder=tmp_path))
    with psycopg.connect(empty) as conn:
        conn.execute(ROWS.encode())
        conn.commit()
        insert = "INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), id, %s FROM customers"
        for name in ("Café", "Cafe\u0301", "General\u200b Support", "Café (2)", "Ca\u200bfé", "x" * 200, "Ｘ" + "x" * 199):
            conn.execute(insert, (name,))
            conn.commit()
    asyncio.run(migrate(empty))
    with psycopg.connect(empty) as conn:
        names = conn.execute("SELECT name, version FROM pillars ORDER BY created_at, id").fetchall()
    assert names == [
        ("General Support", 1), ("Café", 1), ("Cafe\u0301 (3)", 2), ("General\u200b Support (2)", 2), ("Café (2)", 1),
        ("Ca\u200bfé (4)", 2), ("x" * 200, 1), ("Ｘ" + "x" * 189 + " (2)", 2),
    ]  # fmt: skip


def test_a_migration_that_changes_access_waits_for_leases(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    async def wait() -> None:
        waits.append("waited")

    monkeypatch.setattr(connection, "wait_for_leases", wait)
    for name in NAMES:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    asyncio.run(migrate(empty, folder=tmp_path))
    with psycopg.connect(empty) as conn:
        conn.execute(ROWS.encode())
    for number, change in enumerate(("joined_at = now()", "revoked_at = now()"), len(NAMES) + 1):
        (tmp_path / f"{number:04}_change.sql").write_text(f"UPDATE users SET {change}")
        assert waits == []
        asyncio.run(migrate(empty, folder=tmp_path))
    assert waits == ["waited"]


def test_a_migration_that_fails_leaves_nothing_behind(empty: str, tmp_path: Path) -> None:
    (tmp_path / "0001_half.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        asyncio.run(migrate(empty, folder=tmp_path))
    assert tables(empty) == ["migrations"]
    (tmp_path / "0001_half.sql").write_text("CREATE TABLE half (id int)")
    assert asyncio.run(migrate(empty, folder=tmp_path)) == ["0001_half"]


def test_a_migration_waits_for_a_busy_table_in_short_tries(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    (tmp_path / "0001_busy.sql").write_text("CREATE TABLE busy (id int)")
    asyncio.run(migrate(empty, folder=tmp_path))
    (tmp_path / "0002_column.sql").write_text("ALTER TABLE busy ADD COLUMN more int")
    with psycopg.connect(empty) as reader:
        reader.execute("SELECT * FROM busy")
        threading.Timer(1.0, reader.rollback).start()
        assert asyncio.run(migrate(empty, folder=tmp_path)) == ["0002_column"]


def migrate_apart(database_url: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process that migrates, for tests that kill it."""
    program = (
        "import asyncio, pathlib, sys; from schemas.postgres.migrate import migrate; "
        "asyncio.run(migrate(sys.argv[1], folder=pathlib.Path(sys.argv[2])))"
    )
    return subprocess.Popen([sys.executable, "-c", program, database_url, str(folder)], cwd=CHECKOUT)


def kill_when_it_waits(process: subprocess.Popen[bytes], database_url: str, words: str, *, terminated: bool) -> None:
    """Kills the process while Postgres executes its statement with these words, which waits for others; with `terminated` also
    the statement, as a crash of Postgres would."""
    waiting = """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE %s AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
    """
    with psycopg.connect(database_url, autocommit=True) as conn:
        pid = eventually(lambda: conn.execute(waiting, (f"%{words}%",)).fetchone(), why=f"{words} waits")[0]
        process.kill()
        process.wait()
        if terminated:
            conn.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))


def test_a_migration_that_was_killed_goes_on_where_it_was(empty: str, tmp_path: Path) -> None:
    (tmp_path / "0001_table.sql").write_text(
        "CREATE TABLE busy (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO busy SELECT generate_series(1, 6)"
    )
    asyncio.run(migrate(empty, folder=tmp_path))
    (tmp_path / "0002_index.sql").write_text(
        f"{module.OUTSIDE_OF_A_TRANSACTION}\nCREATE INDEX CONCURRENTLY IF NOT EXISTS busy_n ON busy (n);\n"
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS busy_id ON busy (id);\n"
    )
    with psycopg.connect(empty) as other:
        other.execute("UPDATE busy SET n = 0 WHERE id = 6")  # the index waits for this transaction
        killed = migrate_apart(empty, tmp_path)
        kill_when_it_waits(killed, empty, "CREATE INDEX CONCURRENTLY", terminated=True)
        assert other.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'busy_n'::regclass").fetchone() == (False,)
    assert asyncio.run(migrate(empty, folder=tmp_path)) == ["0002_index"]
    (tmp_path / "0003_rows.sql").write_text(
        f"""{module.IN_BATCHES}
        WITH batch AS (SELECT id FROM busy WHERE id > coalesce(%(after)s::int, 0) ORDER BY id LIMIT 2),
        changed AS (UPDATE busy SET n = n + 1 FROM batch WHERE batch.id = busy.id AND n = 0)
        SELECT id::text FROM batch ORDER BY id DESC LIMIT 1"""
    )
    with psycopg.connect(empty) as other, psycopg.connect(empty, autocommit=True) as conn:
        other.execute("UPDATE busy SET n = 0 WHERE id = 3")
        killed = migrate_apart(empty, tmp_path)
        eventually(lambda: conn.execute("SELECT n FROM busy WHERE id = 2").fetchone() == (1,), why="the first batch is done")
        kill_when_it_waits(killed, empty, module.IN_BATCHES, terminated=False)
    assert asyncio.run(migrate(empty, folder=tmp_path)) == ["0003_rows"]
    with psycopg.connect(empty) as conn:
        assert conn.execute("SELECT DISTINCT n FROM busy").fetchall() == [(1,)]
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = ANY ('{busy_n, busy_id}'::regclass[])"
        assert conn.execute(valid).fetchall() == [(True,), (True,)]


def test_two_at_once_migrate_one_after_the_other_although_an_index_waits_for_all_statements(empty: str, tmp_path: Path) -> None:
    (tmp_path / "0001_table.sql").write_text("CREATE TABLE busy (id int)")
    asyncio.run(migrate(empty, folder=tmp_path))
    (tmp_path / "0002_index.sql").write_text(
        f"{module.OUTSIDE_OF_A_TRANSACTION}\nCREATE INDEX CONCURRENTLY IF NOT EXISTS busy_id ON busy (id);\n"
    )
    waits = """
        SELECT count(*) FILTER (WHERE query LIKE '%CREATE INDEX%' AND wait_event_type = 'Lock') = 1
           AND count(*) FILTER (WHERE query LIKE '%advisory_lock%') = 1
        FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    """

    async def both() -> list[list[str]]:
        with psycopg.connect(empty) as other, psycopg.connect(empty, autocommit=True) as conn:
            other.execute("INSERT INTO busy VALUES (1)")
            tasks = [asyncio.create_task(migrate(empty, folder=tmp_path)) for _ in range(2)]
            await asyncio.to_thread(eventually, lambda: conn.execute(waits).fetchone() == (True,))
            other.commit()
            return await asyncio.gather(*tasks)

    assert sorted(asyncio.run(both())) == [[], ["0002_index"]]


def test_a_database_of_before_0_2_0_is_refused_as_it_is(empty: str, tmp_path: Path) -> None:
    with_names(empty, *BEFORE_0_2_0)
    with pytest.raises(WrongVersion, match="A Stint before version"):
        asyncio.run(migrate(empty))
    for part in (["migrate"], ["api", "--port", "1"], ["relay"], ["work"]):
        ran = command(*part, "--state", str(tmp_path / "state"), DATABASE_URL=empty, AMQP_URL="amqp://127.0.0.1:1")
        assert ran.returncode == 1, part
        assert "A Stint before version 0.2.0 made this database, which cannot be upgraded: start with" in ran.stderr, part
        assert "Traceback" not in ran.stderr, part
    assert tables(empty) == ["migrations"]


@pytest.mark.slow
def test_up_refuses_a_database_of_before_0_2_0(empty: str, amqp_url_apart: str, tmp_path: Path) -> None:
    with_names(empty, *BEFORE_0_2_0)
    words = ("up", "--port", str(free_port()), "--state", str(tmp_path / "state"))
    refused = command(*words, DATABASE_URL=empty, AMQP_URL=amqp_url_apart)
    assert refused.returncode == 1
    assert "stint: A Stint before version 0.2.0 made this database, which cannot be upgraded: start with" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_database_of_a_newer_version_is_not_migrated_but_its_parts_may_start(empty: str) -> None:
    asyncio.run(migrate(empty))
    with_names(empty, "0999_of_tomorrow")
    with pytest.raises(WrongVersion, match="0999_of_tomorrow is unknown to this version"):
        asyncio.run(migrate(empty))
    asyncio.run(check_version(empty))  # while one version replaces another, parts of both run


def test_the_database_of_another_program_is_refused_as_it_is(empty: str, database_url: str) -> None:
    with_names(empty, "create_users_table")
    with pytest.raises(WrongVersion, match="create_users_table, which is not a migration of Stint"):
        asyncio.run(migrate(empty))
    other = new_database(database_url)
    with psycopg.connect(other) as conn:
        conn.execute("DROP TABLE migrations; CREATE TABLE migrations (id serial, migration text)")
    with pytest.raises(WrongVersion, match="a table migrations that is not Stint's"):
        asyncio.run(migrate(other))


def test_parts_start_without_their_database() -> None:
    asyncio.run(check_version("postgresql://127.0.0.1:1/stint"))


def test_a_database_that_does_not_answer_does_not_keep_a_process_from_starting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(check_version(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/stint"))  # ends, without an error


def test_pillars_whose_names_differ_are_accepted_whatever_the_locale_of_the_database(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        name = f"locale_{threading.get_native_id()}_{conn.info.backend_pid}"
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'".encode())
    url = with_database(database_url, name)
    asyncio.run(migrate(url))
    with psycopg.connect(url) as conn:
        conn.execute(ROWS.encode())
        for pillar in ("istanbul", "\u0130stanbul"):
            conn.execute(
                "INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), id, %s FROM customers",
                (pillar,),
            )
