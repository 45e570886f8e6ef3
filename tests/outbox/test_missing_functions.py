"""The database lacks SQL functions of the running version: the code was updated before `./stint migrate`, or an older dump was
restored below running processes."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.functions import installed
from tests.outbox.probe import ProbeCall, ProbeChain
from tests.outbox.probes import Probes
from tests.outbox.rows import over
from tests.support.given import Given
from tests.support.installation import eventually, new_database

DROP_FUNCTIONS = """
    DO $$
    DECLARE
        function regprocedure;
    BEGIN
        FOR function IN SELECT oid::regprocedure FROM pg_proc WHERE obj_description(oid, 'pg_proc') LIKE 'schemas/%.sql%' LOOP
            EXECUTE format('DROP FUNCTION %s', function);
        END LOOP;
    END $$
"""
WAITS = "waiting: the database lacks migrations or SQL functions of this version: run ./stint migrate"


@pytest.mark.processes
def test_work_that_needs_a_missing_function_waits_and_other_work_goes_on(own_probes: Probes) -> None:
    stint = own_probes.stint
    stint.start("api").wait_until_ready()
    given = Given(stint)
    admin = given.admin()
    task = given.task(admin)
    own_probes.conn.execute(DROP_FUNCTIONS.encode())

    refused = admin.http.post(f"/api/tasks/{task['id']}/start")
    assert refused.status_code == 503 and "./stint migrate adds what it lacks" in refused.json()["detail"]
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    stop = StopTimer(
        entry_id=uuid4(),
        user_id=UUID(admin.get("/api/me")["id"]),
        task_id=UUID(task["id"]),
        start_time=at,
        end_time=at.replace(hour=10),
        notes="",
    )
    call, chain, stopped = own_probes.enqueue(ProbeCall(key="called"), ProbeChain(key="enqueued by a handler"), stop)
    for key, message_id in (("called", call), ("enqueued by a handler", chain)):
        eventually(lambda message_id=message_id: own_probes.state(message_id) == "done", why=key)
    eventually(lambda: own_probes.value("SELECT count(*) FROM probe") == 2)
    assert own_probes.value("SELECT count(*) FROM probe_calls") == 1, "a call that has succeeded is not made again"
    eventually(lambda: WAITS in stint.log("work"), why="the worker says what to do")

    for name in ("work", "relay"):  # a supervisor starts them again, with the new code
        stint.kill(name)
        (stint.directory / f"{name}.log").unlink()
        stint.start(name)
        eventually(lambda name=name: WAITS in stint.log(name), why=f"{name} waits at its start")
    assert own_probes.state(stopped) == "sent"
    assert stint.command("migrate").returncode == 0
    eventually(lambda: own_probes.state(stopped) == "done", seconds=40, why=stint.log("work")[-1500:])
    assert own_probes.value("SELECT count(*) FROM message_attempts") == 0, "no attempt was counted"
    assert own_probes.value("SELECT duration FROM time_entries") == 3600
    admin.http.post(f"/api/tasks/{task['id']}/start").raise_for_status()
    given.close()


def test_a_message_of_sql_is_as_one_of_python(database_url: str) -> None:
    """The functions that other SQL functions call, and those of schemas/outbox/outbox.py, write the same."""
    enqueued = """
        SELECT actor, queue, body, max_attempts, created_by, cause_id, available_at = now(), state, done_at,
               to_jsonb(m) - '{id,created_at,available_at,body}'::text[]
        FROM messages m WHERE id = %s
    """
    completed = "SELECT to_jsonb(m) - '{id,created_at,done_at}'::text[], done_at > sent_at FROM messages m WHERE id = %s"

    async def work(conn: Connection) -> None:
        message = ProbeCall(key="one")
        async with conn.transaction():
            ids = [await outbox.enqueue(conn, message), uuid4()]
            await conn.execute(
                f"SELECT {installed('enqueue_message')}(%s, %s, %s, %s, %s, NULL, NULL)",
                (ids[1], message.actor, message.queue, message.model_dump_json(), message.max_attempts),
            )
            one, other = [await conn.one(enqueued, (message_id,)) for message_id in ids]
            assert one == other
        lease = "lease_token = %s, lease_until = now(), error = 'x', sent_at = now(), delivery_number = 1"
        await conn.execute(f"UPDATE messages SET state = 'calling', {lease}", (uuid4(),))
        await outbox.complete(conn, ids[0])
        await conn.execute(f"SELECT {installed('complete_message')}(%s)", (ids[1],))
        one, other = [await conn.one(completed, (message_id,)) for message_id in ids]
        assert one == other and one[0]["state"] == "done" and one[1]

    over(new_database(database_url), work)
