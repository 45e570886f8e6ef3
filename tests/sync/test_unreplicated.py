"""A commit that the synchronous standby does not have yet is not acknowledged, also not by the answer to a repetition.

Postgres makes a transaction visible whose wait for the standby was cancelled, as the end of an API process does it. If the
standby is promoted then, the transaction is gone: nobody may have been told that it is kept."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest
from pydantic import SecretStr

from schemas.hours import timer_stops, timers
from schemas.hours.entry_rules import EntryRules
from schemas.identity.users import User
from schemas.postgres.connection import Connection, connect
from schemas.settings import Settings
from schemas.slack import deduplication
from schemas.sync import push
from tests.support import firm_rows
from tests.support.clusters import Cluster, clusters
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, eventually

pytestmark = [pytest.mark.slow, pytest.mark.processes]

STREAMING = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

Act = Callable[[Connection, User, FirmRows], Coroutine[None, None, object]]


@pytest.fixture(scope="module")
def replicated() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary with Stint's tables, and its synchronous standby."""
    with clusters() as made:
        primary = made.new_with_stint("one")
        source = f"primary_conninfo = 'host={primary.sockets} user=stint application_name=near'"
        standby = made.keep(primary.base_backup("near", source))
        standby.touch("standby.signal")
        standby.start()
        with primary.sql() as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'near'")
            conn.execute("SELECT pg_reload_conf()")
        eventually(lambda: primary.value(STREAMING), seconds=20, why="the standby is synchronous")
        yield primary, standby


async def start(conn: Connection, by: User, rows: FirmRows) -> object:
    return await timers.start(conn, rows.task, user_id=by.id, notes="")


async def stop(conn: Connection, by: User, rows: FirmRows) -> object:
    async with conn.transaction():
        return await timer_stops.stop(conn, rows.task, user_id=by.id)


async def push_operation(conn: Connection, by: User, rows: FirmRows) -> object:
    changed = {"id": str(rows.task), "title": "Mailboxes"}
    sent = {"opId": str(rows.customer), "kind": "task.put", "data": changed, "baseVersion": 1}
    operation = push.Operation.model_validate(sent)
    [result] = await push.apply(conn, [operation], by=by, rules=EntryRules("UTC", 12 * 3600, 24))
    assert result["outcome"] == "applied"
    return result


async def press_in_slack(conn: Connection, by: User, rows: FirmRows) -> object:
    """A request of Slack's, which Slack repeats until it is answered."""
    async with conn.transaction():
        await deduplication.record_once(conn, f"press:{rows.task}")
    return "answered"


@contextmanager
def silent(standby: Cluster) -> Iterator[None]:
    """The standby gets nothing meanwhile."""
    [receiver] = standby.processes("walreceiver")
    os.kill(receiver, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(receiver, signal.SIGCONT)


@asynccontextmanager
async def two_connections(primary: Cluster) -> AsyncIterator[tuple[Connection, Connection, User, FirmRows]]:
    """Two connections to the primary, and a user with the rows of a firm."""
    settings = Settings(database_url=primary.url, secret_key=SecretStr(SECRET_KEY))
    async with await connect(settings) as one, await connect(settings) as other:
        by = await firm_rows.user(one)
        yield one, other, by, await firm_rows.firm(one, by=by.id)


async def until_waiting(conn: Connection, task: asyncio.Task[object]) -> None:
    """Returns when a commit waits for the standby, or fails when the task has ended without."""
    async with asyncio.timeout(20):
        while not (await conn.value(WAITING) or task.done()):  # noqa: ASYNC110 - it is Postgres that begins to wait
            await asyncio.sleep(0.01)
    assert not task.done()


@pytest.mark.parametrize("act", [start, stop, push_operation, press_in_slack])
def test_a_repetition_is_answered_only_when_the_standby_has_what_it_repeats(
    act: Act, replicated: tuple[Cluster, Cluster]
) -> None:
    primary, standby = replicated

    async def test() -> None:
        async with two_connections(primary) as (conn, other, by, rows):
            if act is stop:
                await start(conn, by, rows)
            with silent(standby):
                first = asyncio.create_task(act(conn, by, rows))
                await until_waiting(other, first)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                repeated = asyncio.create_task(act(other, by, rows))
                done, _ = await asyncio.wait({repeated}, timeout=1)
                assert not done, "acknowledged, and only the primary has it"
            assert await repeated

    asyncio.run(test())


@pytest.mark.parametrize("act", [start, push_operation])
def test_a_commit_whose_wait_an_administrator_cancelled_is_not_acknowledged(
    act: Act, replicated: tuple[Cluster, Cluster]
) -> None:
    primary, standby = replicated

    async def test() -> None:
        async with two_connections(primary) as (conn, other, by, rows):
            with silent(standby):
                first = asyncio.create_task(act(conn, by, rows))
                await until_waiting(other, first)
                await other.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                with pytest.raises(psycopg.OperationalError, match="synchronous standby"):
                    await first
            assert await act(other, by, rows)

    asyncio.run(test())
