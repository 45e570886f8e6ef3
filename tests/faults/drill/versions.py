"""Breakages of an upgrade: a newer version is a copy of this one with one more migration."""

import shutil
from pathlib import Path

import psycopg

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json
from tests.support.installation import CHECKOUT

LATER = "9999_later"
PARTS = ("api", "actors", "ops", "schemas")
# without the second, the directory in which a process is started would come first
NEWER = ("PYTHONPATH", "PYTHONSAFEPATH")


def _copy(site: Site) -> None:
    newer = _newer(site)
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, newer / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", newer)
    migration = newer / f"schemas/migrations/{LATER}.sql"
    migration.write_text("-- What a later version knows.\nALTER TABLE installation ADD COLUMN later text;\n")


def _migrate(site: Site) -> None:
    """As the first step of an upgrade, after which somebody forgets the others."""
    site.newer = _newer(site)
    try:
        done = site.newer_command("migrate")
    finally:
        site.newer = None
    assert f"applied {LATER}" in done.stdout, done.stdout + done.stderr


def _start_the_newer_version(site: Site, _: Json) -> None:
    site.newer, site.stint.new_processes = _newer(site), True
    site.restart_all(PYTHONPATH=str(site.newer), PYTHONSAFEPATH="1")


def _go_back(site: Site) -> None:
    """To this version, for the other breakages."""
    with psycopg.connect(site.stint.database_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE installation DROP COLUMN IF EXISTS later")
        conn.execute("DELETE FROM migrations WHERE name = %s", (LATER,))
    site.newer, site.stint.new_processes = None, False
    for name in NEWER:
        site.stint.environment.pop(name, None)
    site.restart_all()


def _newer(site: Site) -> Path:
    return site.stint.directory / "newer"


BREAKAGES = [
    Breakage(
        "a schema newer than the code",
        f"The database is of a newer version of Stint: this one does not know {LATER}",
        "The database is of a newer version",
        "start the newer version everywhere",
        _migrate,
        _start_the_newer_version,
        prepare=_copy,
        tidy=_go_back,
    ),
]
