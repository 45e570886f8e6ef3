"""The previous release works on while this version migrates its database, and beside it afterwards."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from schemas.postgres import migrate as module
from schemas.postgres.migrate import migrate
from tests.faults import previous_release
from tests.faults.previous_release import PreviousRelease
from tests.faults.upgrade import LockWaits, Reader, TableUsers, Traffic, fill, traffic
from tests.support.given import Given
from tests.support.installation import Installation, eventually, new_database
from tests.support.sizes import FULL, UPGRADED_ENTRIES, UPGRADED_MESSAGES

LONGEST_SECONDS = 1.0  # that a request waits for a migration
NAMES = [path.stem for path in sorted(module.MIGRATIONS.glob("*.sql"))]


@pytest.fixture
def before(database_url: str, amqp_url_apart: str, tmp_path: Path) -> Iterator[PreviousRelease]:
    """A database of 0.2.0 with rows, no migrations after the first, and nothing that runs yet."""
    previous_release.checkout()
    stint = PreviousRelease(new_database(database_url, template="template0"), amqp_url_apart, tmp_path)
    migrate_until(1, stint, tmp_path)
    with psycopg.connect(stint.database_url) as conn:
        fill(conn, entries=UPGRADED_ENTRIES, messages=UPGRADED_MESSAGES)
    yield stint
    stint.stop()


def migrate_until(number: int, stint: Installation, tmp_path: Path) -> None:
    """Applies the migrations up to that one, as `./stint migrate` does."""
    folder = tmp_path / f"until-{number}"
    folder.mkdir()
    for name in NAMES[:number]:
        shutil.copy(module.MIGRATIONS / f"{name}.sql", folder)
    asyncio.run(migrate(f"{stint.database_url}&application_name=migrates", folder=folder))


def rounds(load: Traffic, more: int) -> None:
    """Waits until everybody has done everything that many times more."""
    needed = [load.rounds[number] + more for number in range(len(load.people) + 1)]
    eventually(
        lambda: load.failed or all(load.rounds[number] >= count for number, count in enumerate(needed)),
        seconds=120,
        why="everybody works",
    )
    assert load.failed == []


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 300)
def test_nobody_waits_while_the_previous_release_is_upgraded(before: PreviousRelease, tmp_path: Path) -> None:
    # before that release, only the locks are looked at: the code that ran on these tables is not in this repository
    with LockWaits(before.database_url) as early, TableUsers(before.database_url):
        migrate_until(previous_release.MIGRATIONS, before, tmp_path)
    assert early.longest < LONGEST_SECONDS, early.what

    before.start().wait_until_ready()
    given = Given(before)
    load = traffic(before, given.admin(), given.people(2))
    with load:
        rounds(load, 1)
        usual = dict(load.slowest)
        load.slowest.clear()
        with LockWaits(before.database_url) as wait, Reader(before.database_url):
            started = time.monotonic()
            applied = asyncio.run(migrate(f"{before.database_url}&application_name=migrates"))
            seconds = time.monotonic() - started
            rounds(load, 1)
        assert set(applied) >= set(NAMES[previous_release.MIGRATIONS :])
        worst = max(load.slowest.values())
        print(
            f"\n{UPGRADED_ENTRIES} entries, {sum(load.count.values())} requests: migrated in {seconds:.1f} s."
            f" Longest wait for a lock {early.longest:.2f} s in the first {previous_release.MIGRATIONS} migrations,"
            f" {wait.longest:.2f} s in the others; slowest request {worst:.2f} s, before {max(usual.values()):.2f} s."
        )
        assert wait.longest < LONGEST_SECONDS, wait.what

        newer = Installation(before.database_url, before.amqp_url, tmp_path)
        for name in ("relay", "work"):  # as docs/operations.md says: relays and workers, then the API
            newer.start(name)
            before.kill(name)
        rounds(load, 1)
    newer.start("api").wait_until_ready()
    before.kill("api")
    later = Given(newer)
    newest = traffic(newer, later.admin(), later.people(1))
    with newest:
        rounds(newest, 1)
    later.settled()
    dead = "SELECT actor, error FROM messages WHERE state = 'dead' AND fingerprint <> 'f'"
    assert newer.rows(dead) == []
    newer.verify()
    given.close()
    later.close()
    newer.stop()
