"""Breakages of Postgres."""

import re
import secrets

import psycopg

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.disk import NOT_ROOT, fill
from tests.faults.drill.site import Site
from tests.support.given import Json
from tests.support.pgbouncer import pgbouncer


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
        "Postgres is read-only",
        "free space or enlarge the disk, and start Postgres if it has ended",
        _fill,
        _free_space,
        section="Postgres has a full disk",
        left_out=lambda site: "" if site.disk else NOT_ROOT,
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
        "a worker behind a transaction pooler",
        "Postgres is behind a pooler that assigns connections per transaction",
        "No worker is alive for a queue",
        "let DATABASE_URL lead to Postgres itself",
        _start_behind_a_pooler,
        _lead_to_postgres,
        section="Postgres is behind a pooler",
    ),
]
