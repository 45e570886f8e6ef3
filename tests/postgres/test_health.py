"""What `./stint doctor` says of a real Postgres that is unwell, and that each cure ends it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.postgres_findings import Limits, of_postgres
from schemas.diagnosis.postgres_health import HELD_SECONDS, PostgresHealth, lines, read
from schemas.diagnosis.report import api
from schemas.diagnosis.report.collect import collect
from schemas.postgres.connection import Connection, is_unreachable
from schemas.postgres.server.failures import explain
from schemas.servers.postgres_refusals import refuses_writes
from schemas.settings import Settings
from tests.support.clusters import Cluster, Clusters, clusters
from tests.support.installation import SECRET_KEY, eventually

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SETTINGS = "max_prepared_transactions = 5", "max_wal_size = 32MB", "autovacuum_naptime = 1s"
BRIEFLY = 0.2  # seconds
HBA = """
local all pw scram-sha-256
local all shut reject
local all all trust
local replication all trust
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


@pytest.fixture(scope="module")
def primary(made: Clusters) -> Cluster:
    return made.new_with_stint("primary", *SETTINGS)


def health(cluster: Cluster, *, role: str = "stint", held_most_seconds: float = HELD_SECONDS) -> PostgresHealth:
    async def look() -> PostgresHealth:
        async with await Connection.connect(cluster.url.replace("stint@", f"{role}@"), autocommit=True) as conn:
            return await read(conn, held_most_seconds=held_most_seconds)

    return asyncio.run(look())


def found(cluster: Cluster, *, but: Limits | None = None, held_most_seconds: float = HELD_SECONDS) -> list[Finding]:
    return of_postgres(health(cluster, held_most_seconds=held_most_seconds), but)


def carry_out(cluster: Cluster, *statements: str) -> None:
    with cluster.sql() as conn:
        for statement in statements:
            conn.execute(statement.encode())


def test_a_healthy_server_has_no_finding(primary: Cluster) -> None:
    assert found(primary) == []
    assert "stint_postgres_connections_most 57" in lines(health(primary))


def test_connections_that_run_out_are_reported(primary: Cluster) -> None:
    carry_out(primary, "CREATE ROLE plain LOGIN", "GRANT SELECT ON migrations TO plain")
    with ExitStack() as many:
        for _ in range(50):
            many.enter_context(psycopg.connect(primary.url, application_name="report"))
        [finding] = found(primary)
        assert finding.what.startswith("Connections of Postgres are running out: 5") and "50 of report" in finding.what
        seen = health(primary, role="plain")  # which does not see what the others do
        assert 50 < seen.connections < 57 and "50 of report" in seen.users_of_connections
    eventually(lambda: not found(primary))


def test_what_keeps_old_rows_is_named_with_what_ends_it(primary: Cluster) -> None:
    carry_out(primary, "BEGIN", "CREATE TABLE kept ()", "PREPARE TRANSACTION 'it''s old'")
    with closing(psycopg.connect(primary.url, application_name="report")) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT 1")
        eventually(lambda: len(found(primary, held_most_seconds=BRIEFLY)) == 2)
        prepared, session = found(primary, held_most_seconds=BRIEFLY)
        assert found(primary) == []
        assert "the prepared transaction it's old" in prepared.what and "(report)" in session.what
        carry_out(primary, prepared.do.partition("in the database stint: ")[2], session.do.partition("end it: ")[2])
        eventually(lambda: found(primary, held_most_seconds=BRIEFLY) == [])


def test_a_long_vacuum_is_not_taken_for_a_transaction_that_keeps_old_rows(primary: Cluster) -> None:
    carry_out(primary, "CREATE TABLE swept WITH (autovacuum_enabled = off) AS SELECT n FROM generate_series(1, 100000) n")
    with closing(psycopg.connect(primary.url, autocommit=True)) as conn, ThreadPoolExecutor(1) as pool:
        conn.execute("SET vacuum_cost_delay = 100")
        conn.execute("SET vacuum_cost_limit = 1")
        vacuum = pool.submit(conn.execute, "VACUUM swept")
        lasts = "SELECT count(*) FROM pg_stat_activity WHERE query = 'VACUUM swept' AND now() - xact_start > interval '0.3 s'"
        eventually(lambda: primary.value(lasts) == 1)
        assert found(primary, held_most_seconds=BRIEFLY) == [] and not vacuum.done()
        conn.cancel()
        assert isinstance(vacuum.exception(), psycopg.errors.QueryCanceled)


def test_who_locks_others_out_is_named_with_what_ends_it(primary: Cluster) -> None:
    settings = Settings(database_url=primary.url, secret_key=SECRET_KEY)
    with closing(psycopg.connect(primary.url, application_name="psql")) as conn:
        conn.execute("LOCK TABLE messages")  # which the doctor reads
        [finding, *_] = diagnose(asyncio.run(collect(settings, api_state=api.probe(None))))
        holder = f"the process {conn.info.backend_pid} (psql, idle in transaction)"
        assert finding.what.startswith(f"Postgres is blocked: {holder} keeps locks of messages for "), finding
        carry_out(primary, finding.do.partition("forgotten: ")[2])
    assert asyncio.run(collect(settings, api_state=api.probe(None))).servers["Postgres"] == "ok"


def test_who_locks_rows_is_named_once_others_have_waited_for_long(primary: Cluster) -> None:
    carry_out(primary, "CREATE TABLE locked AS SELECT 1 AS n")
    none, briefly = "stint_postgres_blocked_seconds 0.0", Limits(blocked_seconds=BRIEFLY)
    # the locks go first, also after a failure, so that nothing waits for them at the end
    with ThreadPoolExecutor(1) as pool, psycopg.connect(primary.url) as other, closing(psycopg.connect(primary.url)) as conn:
        conn.execute("UPDATE locked SET n = 2")
        waits = pool.submit(other.execute, "UPDATE locked SET n = 3")
        eventually(lambda: found(primary, but=briefly))
        [finding] = found(primary, but=briefly)
        assert f"process {conn.info.backend_pid} (stint, idle in transaction) keeps locks of rows" in finding.what
        assert finding.what.endswith("and 1 session waits for it.") and found(primary) == []
        assert none not in lines(health(primary))
        carry_out(primary, finding.do.partition("forgotten: ")[2])
        waits.result(20)
    assert none in lines(health(primary))


def test_a_slot_that_nobody_reads_is_reported_once_it_keeps_too_much(primary: Cluster) -> None:
    carry_out(primary, "SELECT pg_create_physical_replication_slot('gone', true)")
    carry_out(primary, "SELECT pg_create_physical_replication_slot('never_used')")
    [lost] = found(primary)
    assert lost.what == "A standby of Postgres is gone: nobody reads its replication slot gone."
    assert "stint_postgres_standbys_gone 1" in lines(health(primary))
    for _ in range(4):
        carry_out(primary, "SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_switch_wal()")
    [_, finding] = found(primary)
    assert finding.what.startswith("A replication slot of Postgres keeps WAL: gone")
    assert any(line.startswith('stint_postgres_slot_bytes{slot="gone"}') for line in lines(health(primary)))
    drop = finding.do.partition("if there is none any more: ")[2]
    assert lost.do.endswith(drop)
    carry_out(primary, drop)
    assert found(primary) == []


def test_standbys_that_are_behind_or_missing_are_reported(made: Clusters, primary: Cluster) -> None:
    carry_out(primary, "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (near, far)'", "SELECT pg_reload_conf()")
    eventually(lambda: found(primary))
    [missing] = found(primary)
    assert missing.what.startswith("A synchronous standby of Postgres is missing: 1 of those that")
    standby = made.keep(
        primary.base_backup("near", f"primary_conninfo = 'host={primary.sockets} user=stint application_name=near'")
    )
    standby.touch("standby.signal")
    standby.start()
    eventually(lambda: found(primary) == [], why="it is there")

    little = Limits(behind_bytes=1_000_000)
    [receiver] = standby.processes("walreceiver")
    os.kill(receiver, signal.SIGSTOP)
    carry_out(primary, "SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
    eventually(lambda: found(primary, but=little))
    assert found(primary, but=little)[0].what.startswith("A standby of Postgres is behind: near, by ")
    os.kill(receiver, signal.SIGCONT)
    eventually(lambda: found(primary, but=little) == [])

    standby.stop()
    eventually(lambda: found(primary), why="it is missing")
    assert "stint_postgres_standbys_missing 1" in lines(health(primary))
    carry_out(primary, *missing.do.partition("written meanwhile: ")[2].split("; "))
    eventually(lambda: found(primary) == [])


def test_a_newer_versions_database_is_named(primary: Cluster) -> None:
    carry_out(primary, "INSERT INTO migrations (name) VALUES ('9999_later')")
    assert [finding.what.partition(":")[0] for finding in found(primary)] == ["The database is of a newer version of Stint"]
    carry_out(primary, "DELETE FROM migrations WHERE name = '9999_later'")


def test_transaction_ids_that_run_out_are_reported_until_old_rows_are_frozen(made: Clusters) -> None:
    old = made.new_with_stint("old", *SETTINGS)
    old.stop()
    next_id = 1_100_000_000 - 1_100_000_000 % 1_048_576  # the first id of a file of pg_xact
    old.run("pg_resetwal", f"--next-transaction-id={next_id}", "-D", old.data)
    old.write(f"pg_xact/{next_id // 1_048_576:04X}", bytes(262_144))
    old.start(until_ready=False)
    eventually(old.answers, seconds=30)
    [finding] = found(old)
    assert finding.what.startswith("Transaction ids of Postgres are running out: the oldest of the database ")
    old.run("vacuumdb", "--all", "--freeze", "-h", old.sockets, "-U", "stint")
    eventually(lambda: found(old) == [], seconds=40, why="autovacuum freezes the template, which nobody can connect to")


def test_a_write_without_a_transaction_id_is_refused_like_one_without_a_disk(made: Clusters) -> None:
    used_up = made.new_with_stint("used_up", *SETTINGS)
    used_up.stop()
    next_id = 2_147_000_000 - 2_147_000_000 % 1_048_576  # the last ones that no transaction may use
    used_up.run("pg_resetwal", f"--next-transaction-id={next_id}", "-D", used_up.data)
    used_up.write(f"pg_xact/{next_id // 1_048_576:04X}", bytes(262_144))
    used_up.start(until_ready=False)
    eventually(used_up.answers, seconds=30)
    with psycopg.connect(used_up.url) as conn, pytest.raises(psycopg.errors.ProgramLimitExceeded) as refused:
        conn.execute("CREATE TABLE more (id int)")
    assert refuses_writes(refused.value) and is_unreachable(refused.value)
    with psycopg.connect(used_up.url) as conn, pytest.raises(psycopg.errors.ProgramLimitExceeded) as other:
        conn.execute("DO $$ BEGIN RAISE EXCEPTION 'another limit' USING ERRCODE = '54000'; END $$")
    assert not refuses_writes(other.value) and not is_unreachable(other.value)


def test_why_postgres_lets_nobody_in_is_named(primary: Cluster) -> None:
    (primary.data / "pg_hba.conf").write_text(HBA)
    carry_out(
        primary,
        "CREATE ROLE pw LOGIN PASSWORD 'right'",
        "CREATE ROLE shut LOGIN",
        "CREATE ROLE asleep",
        "CREATE ROLE full_up LOGIN CONNECTION LIMIT 0",
        "SELECT pg_reload_conf()",
    )

    def url(user: str, database: str = "stint") -> str:
        return primary.url.replace("stint@/stint?", f"{user}@/{database}?")

    expected = {
        url("pw:falsch"): "does not let Stint in: the password of the user pw is wrong",
        url("nobody"): "does not let Stint in: it has no user nobody, or not one that may log in",
        url("asleep"): "does not let Stint in: it has no user asleep, or not one that may log in",
        url("stint", "other"): "does not let Stint in: it has no database other, or the user stint may not use it",
        url("shut"): "does not let Stint in: its pg_hba.conf admits no user shut from this machine",
        url("full_up"): "does not let Stint in: all its connections are in use",
        "postgresql://stint:secret@127.0.0.1:1/stint": "does not answer: none runs at 127.0.0.1:1",
        "postgresql://stint@/stint?host=/nowhere": "does not answer: none runs at /nowhere",
        "postgresql://stint@no-such-host.invalid/stint": "does not answer: no machine has the name no-such-host.invalid",
        "postgresql:/stint:secret": "does not answer: DATABASE_URL is not the URL of a Postgres",
    }
    eventually(lambda: refusal(url("pw:falsch")) != "")
    assert {address: refusal(address) for address in expected} == expected
    assert explain(TimeoutError(), "postgresql://h/x").state == "does not answer: h does not react"
    settings = Settings(database_url=url("pw:falsch"), secret_key=SECRET_KEY)
    [finding, *_] = diagnose(asyncio.run(collect(settings, api_state=api.probe(None))))
    assert finding.what == f"Postgres {expected[url('pw:falsch')]}." and "ALTER ROLE pw PASSWORD" in finding.do


def refusal(url: str) -> str:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        shown = explain(error, url)
        assert "secret" not in f"{shown}" and "falsch" not in f"{shown}"
        return shown.state
    return ""
