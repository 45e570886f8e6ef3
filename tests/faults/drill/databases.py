"""Breakages of Postgres."""

import re

import psycopg

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json


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


BREAKAGES = [
    Breakage(
        "Postgres is read-only",
        "Postgres is read-only: default_transaction_read_only is on (configuration file)",
        "Postgres is read-only",
        "the statements of the finding, in psql",
        _make_read_only,
        _run_statements,
    ),
]
