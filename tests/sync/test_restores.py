"""Postgres is failed over, copied and restored in each way that people do it, while an API keeps running and clients sync.
Nobody runs a command for that: a client gets rows twice, or starts again, and misses none."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.verify import verify
from schemas.postgres import sync_epochs
from schemas.postgres.connection import connect
from schemas.postgres.migrate import migrate
from tests.support.clusters import Cluster, Clusters, clusters, other_version
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.sync.clients import first_load, pages
from tests.sync.streams import RESET, subscribed

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture
def made() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


@pytest.fixture
def stint(made: Clusters, tmp_path: Path) -> Iterator[Installation]:
    """An API that reaches Postgres by an address, which a test leads elsewhere."""
    installation = Installation(made.database_url, "amqp://127.0.0.1:1", tmp_path)
    try:
        yield installation
    finally:
        while OPENED:
            OPENED.pop().close()
        installation.stop()


OPENED: list[Given] = []  # with HTTP clients, to be closed after the test


def opened(stint: Installation) -> Given:
    OPENED.append(Given(stint))
    return OPENED[-1]


class Firm:
    """A client whose cursor is older than the recorded position, and one that synced at the last moment."""

    def __init__(self, given: Given) -> None:
        self.given, self.stint = given, given.stint
        self.by = given.person()
        self.customer = given.customer(self.by)
        self.tasks = [given.task(self.by, self.customer) for _ in range(8)]
        self.early, self.late = first_load(self.by), first_load(self.by)

    def sign_in_again(self) -> None:
        self.by = self.early.by = self.late.by = self.given.person(email=self.by.email)

    def write(self, title: str) -> None:
        for task in self.tasks:
            self.by.put(f"/api/tasks/{task['id']}", {"title": title})

    def everybody_has_everything(self) -> None:
        whole = first_load(self.by)
        assert {task["id"] for task in self.tasks} <= set(whole.rows["tasks"])
        for store in (self.early, self.late):
            assert store.sync(limit=3).is_as(whole)

    def nothing_comes_twice(self) -> None:
        """Once each client has the rows."""
        for store in (self.early, self.late):
            store.sync()
            assert not any(store.sync().received(kind) for kind in store.rows) and "reset" not in store.pages[0]


def record_position(stint: Installation) -> None:
    """What the relay does every two seconds."""

    async def record() -> None:
        async with await connect(stint.settings) as conn:
            await sync_epochs.record_position(conn)

    asyncio.run(record())


def started(made: Clusters, stint: Installation, *settings: str) -> tuple[Cluster, Firm]:
    one = made.lead_to(made.new_with_stint("one", *settings))
    stint.start("api").wait_until_ready()
    return one, Firm(opened(stint))


def goes_on_at(made: Clusters, stint: Installation, cluster: Cluster) -> None:
    made.lead_to(cluster)
    stint.wait_until_ready()


def test_a_standby_that_lost_the_last_writes_is_promoted(made: Clusters, stint: Installation) -> None:
    one, firm = started(made, stint)
    standby = made.keep(one.base_backup("two", f"primary_conninfo = 'host={one.sockets} user=stint'"))
    standby.touch("standby.signal")
    standby.start()
    firm.write("Replicated")
    firm.early.sync()
    record_position(stint)
    replicated = one.value("SELECT pg_current_wal_insert_lsn()")
    eventually(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{replicated}'"), seconds=20)
    with standby.sql() as conn:
        conn.execute("ALTER SYSTEM SET primary_conninfo = ''")
        conn.execute("SELECT pg_reload_conf()")
    eventually(lambda: standby.value("SELECT count(*) FROM pg_stat_wal_receiver") == 0)
    firm.write("Lost")
    lost = firm.given.task(firm.by, firm.customer)
    firm.late.sync()
    assert lost["id"] in firm.late.rows["tasks"]

    one.crash()
    with standby.sql() as conn:
        conn.execute("SELECT pg_promote()")
    goes_on_at(made, stint, standby)
    firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the failover"})

    firm.everybody_has_everything()
    assert lost["id"] not in firm.late.rows["tasks"] and firm.late.rows["tasks"][firm.tasks[1]["id"]]["title"] == "Replicated"
    firm.nothing_comes_twice()


def test_a_client_reads_from_a_standby_and_from_its_primary_in_turn(
    made: Clusters, stint: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, firm = started(made, stint)
    standby = made.keep(one.base_backup("two", f"primary_conninfo = 'host={one.sockets} user=stint'"))
    standby.touch("standby.signal")
    standby.start()
    reading = Installation(standby.url, "amqp://127.0.0.1:1", tmp_path_factory.mktemp("reading"))
    try:
        reading.start("api")
        # a standby refuses writes, so the API is never ready there; it does not fail to read
        eventually(lambda: reading.answers("/health/live"), seconds=60, why=reading.log("api"))
        there = replace(firm.by, http=opened(reading).client({"Authorization": f"Bearer {firm.by.token}"}))
        for number in range(4):
            firm.write(f"Round {number}")
            firm.early.by = there
            firm.early.sync()
            firm.early.by = firm.by
            if number == 2:
                one.crash()
                one.start()
                stint.wait_until_ready()
            firm.everybody_has_everything()
        firm.nothing_comes_twice()
    finally:
        reading.stop()


def busy(cluster: Cluster, transactions: int = 3_000) -> None:
    """Takes transaction ids, as months of work do."""
    with cluster.sql() as conn:
        conn.execute(
            f"""
            DO $$ BEGIN FOR n IN 1..{transactions} LOOP
                BEGIN PERFORM pg_current_xact_id(); INSERT INTO rate_limits VALUES ('busy', now());
                    RAISE division_by_zero;
                EXCEPTION WHEN division_by_zero THEN END;
            END LOOP; END $$
            """.encode()
        )


@pytest.mark.parametrize("by", ["api", "relay", "migrate"])
def test_a_dump_is_restored_into_a_new_cluster(by: str, made: Clusters, stint: Installation) -> None:
    """The new server has given out fewer transaction ids than the rows contain. No epoch begins until they are corrected."""
    one, firm = started(made, stint)
    busy(one)
    firm.write("In the dump")
    firm.given.many_bills(firm.by, firm.tasks[0], 3)
    firm.early.sync()
    record_position(stint)
    dump = made.home / "dump"
    one.run("pg_dump", "-h", one.sockets, "-U", "stint", "-Fc", "-f", dump, "stint")
    firm.write("Lost")
    firm.late.sync()
    one.stop()

    two = made.new("two").start()
    two.run("pg_restore", "-h", two.sockets, "-U", "stint", "-C", "-d", "postgres", dump)
    assert two.value("SELECT max(changed_xid::text::int) FROM tasks") > two.value("SELECT pg_current_xact_id()::text::int")
    if by == "migrate":
        asyncio.run(migrate(two.url))
    goes_on_at(made, stint, two)
    if by == "relay":
        record_position(stint)
    if by != "api":
        with subscribed(firm.by) as stream:
            stream.wait_for(*RESET)
            firm.everybody_has_everything()
            firm.nothing_comes_twice()
            changed = firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the restore"})
            stream.wait_for("task", changed["id"])
            time.sleep(1.5)  # the listener reads again
            assert stream.events == [RESET, ("task", changed["id"])]
        assert asyncio.run(verify(stint.settings)) == []
    else:  # it does not change rows: each sync starts again, until a relay runs
        firm.everybody_has_everything()
        assert first_load(firm.by).sync().pages[0]["reset"] is True
        record_position(stint)
    firm.everybody_has_everything()
    firm.nothing_comes_twice()
    assert firm.late.rows["tasks"][firm.tasks[1]["id"]]["title"] == "In the dump"


def test_a_dump_is_restored_over_the_database_while_the_server_runs(made: Clusters, stint: Installation) -> None:
    one, firm = started(made, stint)
    firm.write("In the dump")
    firm.early.sync()
    dump = made.home / "dump"
    one.run("pg_dump", "-h", one.sockets, "-U", "stint", "-Fc", "-f", dump, "stint")
    firm.write("Lost")
    firm.late.sync()
    with subscribed(firm.by) as stream:
        stream.wait_for(*RESET)
        one.run("pg_restore", "-h", one.sockets, "-U", "stint", "--clean", "--if-exists", "-1", "-d", "stint", dump)
        stream.wait_for(*RESET, times=2)

    firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the restore"})
    firm.everybody_has_everything()
    firm.nothing_comes_twice()
    assert firm.late.rows["tasks"][firm.tasks[1]["id"]]["title"] == "In the dump"


def test_a_base_backup_is_rolled_forward_to_a_point_in_time(made: Clusters, stint: Installation) -> None:
    archive = made.home / "archive"
    archive.mkdir(mode=0o777)
    archive.chmod(0o777)
    one, firm = started(made, stint, "archive_mode = on", f"archive_command = 'cp %p {archive}/%f'")
    two = made.keep(one.base_backup("two"))
    firm.write("Before the point")
    firm.early.sync()
    record_position(stint)
    one.value("SELECT pg_create_restore_point('here')")
    firm.write("Lost")
    lost = firm.given.task(firm.by, firm.customer)
    firm.late.sync()
    one.value("SELECT pg_switch_wal()")
    one.stop()

    with (two.data / "postgresql.conf").open("a") as file:
        file.write(f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_name = 'here'\n")
        file.write("recovery_target_action = 'promote'\n")
    two.touch("recovery.signal")
    two.start()
    eventually(lambda: not two.value("SELECT pg_is_in_recovery()"), seconds=30)
    goes_on_at(made, stint, two)
    assert firm.by.http.get("/api/tasks").status_code == 401, "the database does not know who was signed out since"
    firm.sign_in_again()
    firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the restore"})

    firm.everybody_has_everything()
    firm.nothing_comes_twice()
    assert lost["id"] not in firm.late.rows["tasks"]
    assert firm.late.rows["tasks"][firm.tasks[1]["id"]]["title"] == "Before the point"


@pytest.mark.parametrize("properly", [False, True])
def test_the_files_of_an_earlier_moment_are_restored(properly: bool, made: Clusters, stint: Installation) -> None:
    """The same identifier and the same timeline as before: nothing but the marker shows it."""
    one, firm = started(made, stint)
    firm.write("In the copy")
    firm.early.sync()
    record_position(stint)
    one.stop() if properly else one.crash()
    copy = made.keep(one.copy("two"))
    goes_on_at(made, stint, one.start())
    firm.write("Lost")
    firm.late.sync()
    time_of_a_client = datetime.now(UTC).isoformat()
    one.stop()

    goes_on_at(made, stint, copy.start())
    assert next(pages(firm.by, time_of_a_client))["reset"] is True
    firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the restore"})
    firm.everybody_has_everything()
    firm.nothing_comes_twice()
    assert firm.late.rows["tasks"][firm.tasks[1]["id"]]["title"] == "In the copy"


@pytest.mark.parametrize("how", ["files", "base backup", "template"])
def test_two_copies_of_a_database_do_not_accept_each_others_cursors(how: str, made: Clusters, stint: Installation) -> None:
    one, firm = started(made, stint)
    firm.write("In both")
    firm.early.sync()
    record_position(stint)
    if how == "files":
        one.stop()
        two = made.keep(one.copy("two"))
        one.start()
    elif how == "base backup":
        two = made.keep(one.base_backup("two"))
    else:
        stint.stop()
        with one.sql("postgres") as conn:
            conn.execute("CREATE DATABASE other TEMPLATE stint")
        two = Cluster(one.data)
        two.url = one.url.replace("/stint?", "/other?")
    stint.stop()
    if how != "template":
        two.start()
    other = Installation(two.url, "amqp://127.0.0.1:1", stint.directory)
    try:
        other.start("api").wait_until_ready()
        stint.start("api").wait_until_ready()
        firm.late.by = replace(firm.by, http=opened(other).client({"Authorization": f"Bearer {firm.by.token}"}))
        for store in (firm.early, firm.late):
            for title in ("One", "Two", "Three"):
                store.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": f"{title} of {store.by.http.base_url}"})
            assert store.sync().is_as(first_load(store.by))
        firm.early.by, firm.late.by = firm.late.by, firm.early.by
        for store in (firm.early, firm.late):
            assert store.sync().is_as(first_load(store.by))
    finally:
        other.stop()


def test_postgres_is_upgraded_to_another_major_version(made: Clusters, stint: Installation) -> None:
    old = other_version(made.home)
    one = made.keep(Cluster(made.home / "one", programs=old).create())
    made.lead_to(one.start().with_stint())
    stint.start("api").wait_until_ready()
    firm = Firm(opened(stint))
    firm.write("Before the upgrade")
    firm.late.sync()
    one.stop()

    two = made.new("two")
    upgrade = ("-d", one.data, "-D", two.data, "-b", old, "-B", two.programs, "-U", "stint", "-s", made.home)
    two.run("pg_upgrade", *upgrade, "--no-sync")
    goes_on_at(made, stint, two.start())
    firm.by.put(f"/api/tasks/{firm.tasks[0]['id']}", {"title": "After the upgrade"})
    firm.everybody_has_everything()
    firm.nothing_comes_twice()
