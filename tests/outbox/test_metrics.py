"""What the metrics, the doctor and the page of the queues say about messages that do not move and processes that do nothing."""

import threading
import time
from uuid import UUID

import psycopg
import pytest

from actors.runtime import attempts
from actors.runtime.attempts import AttemptRunner
from actors.runtime.handlers import HANDLERS, Handler
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import RecomputeBills
from schemas.outbox import heartbeats, metrics, queue_samples
from schemas.outbox.heartbeats import LateHandler, Report
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.outbox.rows import ACTOR, connected, delivery, message, over
from tests.support.installation import SECRET_KEY, eventually, new_database


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def measured(conn: Connection) -> dict[str, float]:
    lines = [line for line in await metrics.metrics(conn) if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize("state", ["ready", "sent", "calling"])
def test_the_age_of_the_oldest_message_grows_whatever_its_state(state: str, url: str) -> None:
    async def read(conn: Connection) -> None:
        due = "now() - interval '100 seconds'"
        await message(conn, state, created_at=due, available_at=due)
        await message(
            conn, state, created_at=due, available_at="now() - interval '700 seconds'", queue="'mail'"
        )  # with priority
        await message(conn, created_at=due, available_at="now() + interval '1 hour'", queue="'xero'")
        await message(conn, "dead", created_at=due, died_at="now() - interval '30 seconds'", queue="'slack'")
        found = await measured(conn)
        assert 100 <= found['stint_oldest_due_seconds{queue="bills"}'] < 160
        assert 100 <= found['stint_oldest_due_seconds{queue="mail"}'] < 160, "the priority is no time that it has waited"
        assert found['stint_oldest_due_seconds{queue="xero"}'] == found['stint_oldest_due_seconds{queue="slack"}'] == 0
        ages = {each: found[f'stint_oldest_seconds{{queue="bills",state="{each}"}}'] for each in ("ready", "sent", "calling")}
        assert [each for each, age in ages.items() if age] == [state]
        assert 30 <= found['stint_oldest_seconds{queue="slack",state="dead"}'] < 90
        of_the_page = {sample.queue: sample.oldest_seconds for sample in await queue_samples.present(conn)}
        for queue, age in of_the_page.items():
            assert found[f'stint_oldest_due_seconds{{queue="{queue}"}}'] == pytest.approx(age, abs=20)
        status = InstallationStatus(servers={"Postgres": "ok"}, queues=await metrics.queue_depths(conn))
        await beat(conn, "here:1", kind="work", queues=["bills"])
        status.processes = await heartbeats.processes(conn)
        [finding] = [each for each in diagnose(status) if "wait too long" in each.what]
        assert "of bills" in finding.what
        where = {"ready": "for the relay", "sent": "for a worker", "calling": "for another server's answer"}[state]
        assert finding.why.startswith(f"the oldest waits {where};")

    over(url, read)


def test_counters_begin_at_zero_since_prometheus_sees_no_growth_before_the_first_value(url: str) -> None:
    found = over(url, measured)
    assert found['stint_replayed_total{outcome="failed"}'] == found[f'stint_attempts_failed_total{{actor="{ACTOR}"}}'] == 0


async def beat(conn: Connection, name: str, *, kind: str, queues: list[str], report: Report | None = None) -> None:
    await heartbeats.beat(conn, process=name, kind=kind, queues=queues, started=time.monotonic(), report=report)


def test_living_processes_are_counted_by_kind_and_queue_with_what_they_report(url: str) -> None:
    late = LateHandler(actor=ACTOR, message_id=UUID(int=1), seconds=93.4)

    async def read(conn: Connection) -> None:
        await beat(conn, "here:1", kind="relay", queues=[], report=Report(problems={"RabbitMQ": "blocked: low on memory"}))
        await beat(conn, "here:2", kind="work", queues=["bills", "mail"], report=Report(late_handlers=[late]))
        await beat(conn, "here:3", kind="work", queues=["mail"])
        await beat(conn, "here:4", kind="api", queues=[])
        found = await measured(conn)
        alive = {name: int(count) for name, count in found.items() if name.startswith("stint_alive")}
        assert alive == {
            'stint_alive{kind="api"}': 1,
            'stint_alive{kind="relay"}': 1,
            'stint_alive{kind="work",queue="timers"}': 0,
            'stint_alive{kind="work",queue="bills"}': 1,
            'stint_alive{kind="work",queue="xero"}': 0,
            'stint_alive{kind="work",queue="slack"}': 0,
            'stint_alive{kind="work",queue="mail"}': 2,
        }
        assert found['stint_server_problems{server="RabbitMQ",problem="blocked"}'] == 1
        assert found[f'stint_late_handlers{{actor="{ACTOR}"}}'] == 1
        status = InstallationStatus(servers={"Postgres": "ok"}, processes=await heartbeats.processes(conn))
        [finding] = [each for each in diagnose(status) if "handler" in each.what]
        assert finding.what == f"A handler runs longer than its deadline: {ACTOR}, for 93 s, in here:2."
        assert "--pid 2 " in finding.do

    over(url, read)


def test_a_process_without_heartbeats_is_frozen_while_its_connection_is_open_and_has_ended_after_that(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(conn: Connection) -> None:
        async with connected(url) as of_the_worker:
            await beat(of_the_worker, "here:77", kind="work", queues=["bills"])
            assert not any(process.frozen for process in await heartbeats.processes(conn))
            monkeypatch.setattr(heartbeats, "ALIVE_SECONDS", 0.0)
            await conn.execute("UPDATE heartbeats SET seen_at = seen_at - interval '10 seconds' WHERE process = 'here:77'")
            # its connection began after the heartbeat, as one with the same pid would that another process has later
            assert not any(process.frozen for process in await heartbeats.processes(conn))
        async with connected(url) as of_the_worker:
            await beat(of_the_worker, "here:77", kind="work", queues=["bills"])
            processes = await heartbeats.processes(conn)
            frozen = next(process for process in processes if process.process == "here:77")
            assert frozen.frozen and not frozen.alive and 0 < frozen.silent_seconds < 60
            [finding, *_] = diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=[frozen]))
            assert finding.what.startswith("A process is frozen: the worker here:77 ") and "kill -CONT 77" in finding.do
            pid = await of_the_worker.value("SELECT pg_backend_pid()")
            # as PgBouncer does when the process has ended; it keeps the session
            await of_the_worker.execute("DISCARD ALL")
            assert not any(each.frozen for each in await heartbeats.processes(conn) if each.process == "here:77")
            await beat(of_the_worker, "here:77", kind="work", queues=["bills"])
        await conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))  # waits until it is closed
        assert not any(each.frozen for each in await heartbeats.processes(conn) if each.process == "here:77")

    over(url, read)


def test_a_handler_that_blocks_past_its_deadline_is_reported_and_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked, goes_on = threading.Event(), threading.Event()

    async def handle(conn: Connection, message: RecomputeBills) -> None:
        blocked.set()
        goes_on.wait(30)

    monkeypatch.setattr(attempts, "LATE_SECONDS", 0.2)
    monkeypatch.setattr(RecomputeBills, "timeout_seconds", 0.1)
    monkeypatch.setitem(HANDLERS, ACTOR, Handler(RecomputeBills, handle, calls_out=False))
    message_id = over(url, lambda conn: message(conn, "sent"))
    runner = AttemptRunner(Settings(database_url=url, secret_key=SECRET_KEY), threading.Event())
    thread = threading.Thread(target=runner.run, args=(delivery(message_id),))
    assert runner.late_handler() is None
    thread.start()
    try:
        assert blocked.wait(30)
        late = eventually(runner.late_handler)
        assert (late.actor, late.message_id) == (ACTOR, message_id) and late.seconds >= 0.3
    finally:
        goes_on.set()
        thread.join()
        runner._loop.run(runner._drop_connection())  # a worker never closes it
        runner._loop.close()
    assert runner.late_handler() is None
    with psycopg.connect(url) as conn:
        [(state,)] = conn.execute("SELECT state FROM messages WHERE id = %s", (message_id,)).fetchall()
    assert state == "ready", "it was cancelled when it no longer blocked"
