"""Breakages of Postgres."""

import re
import secrets
from contextlib import closing

import psycopg

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.disk import NOT_ROOT, fill
from tests.faults.drill.site import Site
from tests.support.clusters import Cluster
from tests.support.given import Json
from tests.support.pgbouncer import pgbouncer

HELD_SECONDS = 5
IDS_OF_A_FILE = 1_048_576  # of pg_xact, which has two bits for each


def _as_superuser(site: Site, *statements: str) -> None:
    with psycopg.connect(site.stint.database_url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def _make_read_only(site: Site) -> None:
    _as_superuser(site, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")


def _run_statements(site: Site, finding: Json) -> None:
    """Those of the finding, in one session, as in psql."""
    found = re.search(r"in psql: (.*)", finding["do"])
    assert found is not None, finding
    _as_superuser(site, *found[1].split("; "))


def _fill(site: Site) -> None:
    assert site.disk is not None
    # a new file of the WAL has space for what follows: without any Postgres ends, and nobody can ask it why
    _as_superuser(site, "CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT")
    fill(site.disk)
    for _ in range(400):
        body = {"title": "Fill it", "customerId": site.firm.customer["id"], "description": secrets.token_hex(4_000)}
        if site.firm.admin.http.post("/api/tasks", json=body).status_code == 503:
            return


def _free_space(site: Site, _: Json) -> None:
    assert site.disk is not None
    (site.disk / "ballast").unlink()
    if not site.servers.postgres.is_running():  # without space for its log it ends
        site.servers.postgres.start()


def _use_up_connections(site: Site) -> None:
    with psycopg.connect(site.stint.database_url) as conn:
        [used, most] = conn.execute(
            "SELECT (SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')::int"
        ).fetchone() or (0, 0)
    for _ in range(int(0.9 * most) - used):
        site.held.enter_context(psycopg.connect(site.stint.database_url, application_name="a report"))


def _lock_a_table(site: Site) -> None:
    conn = site.held.enter_context(closing(psycopg.connect(site.stint.database_url, application_name="psql")))
    conn.execute("LOCK TABLE messages")


def _end_what_was_forgotten(site: Site, finding: Json) -> None:
    _as_superuser(site, finding["do"].partition("forgotten: ")[2])


def _report_old_rows_early(site: Site) -> None:
    """An hour is too long for a drill."""
    site.restart("api", STINT_HELD_SECONDS=str(HELD_SECONDS))
    site.stint.wait_until_ready()


def _report_old_rows_late(site: Site) -> None:
    site.held.close()
    del site.stint.environment["STINT_HELD_SECONDS"]
    site.restart("api")
    site.stint.wait_until_ready()


def _read_for_long(site: Site) -> None:
    """A report, whose author has gone home."""
    conn = site.held.enter_context(closing(psycopg.connect(site.stint.database_url, application_name="a report")))
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    conn.execute("SELECT count(*) FROM time_entries")


def _end_holders(site: Site) -> None:
    """By the statements of the findings about old rows."""
    for each in site.doctor():
        if found := re.search(r"end it: (?:in the database \w+: )?(.*)", each["do"]):
            _as_superuser(site, found[1])


def _use_up_transaction_ids(site: Site) -> None:
    """Somebody has told autovacuum to begin late, and more than a billion transactions followed: Postgres believes it."""
    _as_superuser(site, "ALTER SYSTEM SET autovacuum_freeze_max_age = 2000000000")
    _restart_postgres(site, next_id=1_100_000_000)


def _restart_postgres(site: Site, *, next_id: int | None = None) -> None:
    postgres = site.servers.postgres
    postgres.stop()
    if next_id is not None:
        files = Cluster(postgres.data)
        first = next_id - next_id % IDS_OF_A_FILE
        files.run("pg_resetwal", f"--next-transaction-id={first}", "-D", files.data)
        files.write(f"pg_xact/{first // IDS_OF_A_FILE:04X}", bytes(IDS_OF_A_FILE // 4))
    postgres.start()
    postgres.wait()


def _freeze(site: Site, finding: Json) -> None:
    postgres = site.servers.postgres
    Cluster(postgres.data).run("vacuumdb", "--all", "--freeze", "-h", postgres.sockets, "-U", "stint")
    reset = re.search(r"ALTER SYSTEM RESET \w+", finding["do"])
    assert reset is not None, finding
    _as_superuser(site, reset[0])
    _restart_postgres(site)


def _start_behind_a_pooler(site: Site) -> None:
    site.restart("work:bills", DATABASE_URL=site.held.enter_context(pgbouncer(site.servers.postgres, mode="transaction")))


def _lead_to_postgres(site: Site, _: Json) -> None:
    site.restart("work:bills", DATABASE_URL=site.stint.database_url)
    site.held.close()


BREAKAGES = [
    Breakage(
        "Postgres is read-only",
        "Postgres is read-only: default_transaction_read_only is on (configuration file)",
        "Postgres is read-only",
        "the statements of the finding, in psql",
        _make_read_only,
        _run_statements,
    ),
    Breakage(
        "Postgres has a full disk",
        "Postgres has a full disk: no space is left",
        "Postgres has a full disk",
        "free space or enlarge the disk, and start Postgres if it has ended",
        _fill,
        _free_space,
        left_out=lambda site: "" if site.disk else NOT_ROOT,
    ),
    Breakage(
        "somebody has locked a table",
        "Postgres is blocked: the process",
        "Postgres is blocked",
        "end what was forgotten",
        _lock_a_table,
        _end_what_was_forgotten,
        tidy=lambda site: site.held.close(),
    ),
    Breakage(
        "connections of Postgres run out",
        "Connections of Postgres are running out",
        "Connections of Postgres are running out",
        "end those that nobody needs",
        _use_up_connections,
        lambda site, _: site.held.close(),
    ),
    Breakage(
        "a transaction keeps old rows",
        "Old rows of Postgres cannot be removed: a transaction of the process",
        "Old rows of Postgres cannot be removed",
        "end it as the finding says",
        _read_for_long,
        lambda site, _: _end_holders(site),
        prepare=_report_old_rows_early,
        tidy=_report_old_rows_late,
    ),
    Breakage(
        "transaction ids run out",
        "Transaction ids of Postgres are running out: the oldest of the database",
        "Transaction ids of Postgres are running out",
        "vacuumdb --all --freeze",
        _use_up_transaction_ids,
        _freeze,
    ),
    Breakage(
        "a worker behind a transaction pooler",
        "Postgres is behind a pooler that assigns connections per transaction",
        "No worker is alive for a queue",
        "let DATABASE_URL lead to Postgres itself",
        _start_behind_a_pooler,
        _lead_to_postgres,
        section="Postgres is behind a pooler",
    ),
]
