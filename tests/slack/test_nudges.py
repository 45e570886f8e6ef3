"""Which timers have their owners nudged in Slack, when, and that each nudge is enqueued once."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.runtime import rescuer
from schemas.hours import timers
from schemas.messages import NudgeOwner
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import nudges
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def known(url: str, **more: Any) -> Settings:
    values: dict[str, Any] = {"slack_bot_token": "xoxb-1", "stint_nudge_hours": 8} | more
    return Settings(database_url=url, secret_key=SECRET_KEY, **values)


async def running(conn: Connection, hours: float, **columns: Any) -> UUID:
    """A timer of a new user that has run for that long. Returns its id."""
    by = await firm_rows.user(conn, **columns)
    return await again(conn, by.id, (await firm_rows.firm(conn, by=by.id)).task, hours)


async def again(conn: Connection, user_id: UUID, task_id: UUID, hours: float) -> UUID:
    """The user's timer, which has run for that long. Returns its id."""
    timer_id: UUID = await conn.value(
        """
        INSERT INTO timers (user_id, id, task_id, start_time)
        VALUES (%s, %s, %s, date_trunc('second', now() - make_interval(secs => %s), 'UTC')) RETURNING id
        """,
        (user_id, uuid4(), task_id, hours * 3600),
    )
    return timer_id


async def planned(conn: Connection) -> list[str]:
    """The timers whose nudges were enqueued since the last call."""
    enqueued = "DELETE FROM messages WHERE actor = 'nudge_owner' AND state = 'ready' RETURNING body->>'timer_id'"
    return sorted(await conn.values(enqueued))


def ids(*timer_ids: UUID) -> list[str]:
    return sorted(map(str, timer_ids))


def test_a_start_writes_no_message_and_the_rescuer_enqueues_the_nudge_when_it_is_due(url: str) -> None:
    async def work(conn: Connection) -> None:
        by = await firm_rows.user(conn)
        task = (await firm_rows.firm(conn, by=by.id)).task
        async with conn.transaction():
            timer, _ = await timers.start(conn, task, user_id=by.id)
        await rescuer.rescue_once(conn, known(url))
        assert await conn.value("SELECT count(*) FROM messages") == 0

        before = await conn.one(
            "UPDATE timers SET start_time = start_time - interval '8 h' RETURNING version, changed_xid::text"
        )
        await rescuer.rescue_once(conn, known(url))
        assert await planned(conn) == ids(timer.id)
        assert await conn.one("SELECT version, changed_xid::text FROM timers") == before, "a client sees no change"

    over(url, work)


def test_a_nudge_is_due_once_after_its_hours_for_those_who_have_access_if_slack_is_set_up(url: str) -> None:
    async def work(conn: Connection) -> None:
        due, later = await running(conn, 8.01), await running(conn, 7.9)
        revoked = await running(conn, 9, revoked_at="2026-03-02")
        assert await nudges.plan(conn, known(url, slack_bot_token=None)) == 0
        assert await nudges.plan(conn, known(url)) == 1, "also of a timer that was started before Slack was set up"
        assert await planned(conn) == ids(due)
        assert await nudges.plan(conn, known(url)) == 0
        assert await nudges.plan(conn, known(url, stint_nudge_hours=7)) == 1, "the setting counts for timers that run already"
        await conn.execute("UPDATE users SET revoked_at = NULL")
        assert await nudges.plan(conn, known(url)) == 1
        assert await planned(conn) == ids(later, revoked)

    over(url, work)


def test_several_relays_enqueue_each_nudge_once(url: str) -> None:
    async def work(conn: Connection) -> None:
        timers_due = [await running(conn, 9) for _ in range(20)]
        async with connected(url) as other, connected(url) as third:
            for _ in range(3):
                counts = await asyncio.gather(*(nudges.plan(each, known(url)) for each in (conn, other, third)))
                assert sum(counts) == len(timers_due)
                assert await planned(conn) == ids(*timers_due)
                await conn.execute("UPDATE slack_nudges SET next_at = now()")  # as if their owners had let them run on

            # a relay that ends before its COMMIT has enqueued nothing, and another one does it
            await conn.execute("UPDATE slack_nudges SET next_at = now()")
            with pytest.raises(ZeroDivisionError):
                async with other.transaction():
                    assert await nudges.plan(other, known(url)) == len(timers_due)
                    assert await nudges.plan(third, known(url)) == 0, "it waits for no other relay"
                    raise ZeroDivisionError
            assert await nudges.plan(third, known(url)) == len(timers_due)

    over(url, work)


def test_a_nudge_that_another_relay_enqueues_meanwhile_is_not_enqueued_again(url: str) -> None:
    """That relay commits after the statement has read which nudges are due."""

    async def work(conn: Connection) -> None:
        await running(conn, 9)
        async with connected(url) as other:
            pid = await other.value("SELECT pg_backend_pid() FROM set_config('lock_timeout', '0', false)")
            async with conn.transaction():
                await conn.execute("INSERT INTO slack_nudges (user_id, timer_id) SELECT user_id, id FROM timers")
                planning = asyncio.create_task(nudges.plan(other, known(url)))
                while not await conn.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)):
                    assert not planning.done()
                    await asyncio.sleep(0.01)
            assert await planning == 0

    over(url, work)


def test_the_next_nudge_comes_after_keep_running_and_for_the_next_timer(url: str) -> None:
    async def work(conn: Connection) -> None:
        timer = await running(conn, 9)
        by, task = await conn.one("SELECT user_id, task_id FROM timers")
        assert await nudges.plan(conn, known(url)) == 1
        await nudges.ask_again(conn, timer, user_id=by, hours=8)
        assert await nudges.plan(conn, known(url)) == 0
        seconds = "SELECT extract(epoch FROM next_at - now())::float FROM slack_nudges"
        assert 8 * 3600 - 60 < await conn.value(seconds) <= 8 * 3600
        await conn.execute("UPDATE slack_nudges SET next_at = now()")
        assert await nudges.plan(conn, known(url)) == 1
        assert await nudges.plan(conn, known(url)) == 0, "nobody has pressed a button since"

        await conn.execute("DELETE FROM timers")
        following = await again(conn, by, task, 8.5)
        await planned(conn)
        assert await nudges.plan(conn, known(url)) == 1
        assert await planned(conn) == ids(following)

    over(url, work)


def test_a_start_that_was_set_to_a_later_time_has_its_nudge_later(url: str) -> None:
    async def work(conn: Connection) -> None:
        timer = await running(conn, 9)
        by = await conn.value("SELECT user_id FROM timers")
        assert await nudges.plan(conn, known(url)) == 1
        message = NudgeOwner(timer_id=timer, user_id=by)
        await conn.execute("UPDATE timers SET start_time = start_time + interval '2 hours'")
        found = await nudges.get_timer(conn, message, hours=8)
        assert found is not None and not found.due
        await nudges.postpone(conn, found, message, hours=8)
        await planned(conn)
        assert await nudges.plan(conn, known(url)) == 0
        assert await nudges.plan(conn, known(url, stint_nudge_hours=6)) == 0, (
            "not again and again, if the worker has another setting"
        )
        await conn.execute("UPDATE slack_nudges SET next_at = next_at - interval '1 hour'")
        await conn.execute("UPDATE timers SET start_time = start_time - interval '1 hour'")
        assert await nudges.plan(conn, known(url)) == 1

    over(url, work)


def test_a_nudge_that_the_version_before_has_enqueued_stays_the_only_one(url: str) -> None:
    async def work(conn: Connection) -> None:
        columns = {
            "ready": "available_at = now() + interval '1 hour'",  # its owner has let it run on
            "sent": "sent_at = now()",
            "calling": "lease_token = gen_random_uuid(), lease_until = now() + interval '1 minute'",
            "dead": "died_at = now()",
            "discarded": "died_at = now()",
            "done": "done_at = now() - interval '5 minutes'",
        }
        for state, needed in columns.items():
            timer = await running(conn, 9)
            message = await conn.value(
                """
                INSERT INTO messages (id, actor, queue, body, max_attempts)
                SELECT gen_random_uuid(), 'nudge_owner', 'slack', jsonb_build_object('timer_id', id, 'user_id', user_id), 15
                FROM timers WHERE id = %s RETURNING id
                """,
                (timer,),
            )
            await conn.execute(f"UPDATE messages SET state = '{state}', {needed} WHERE id = %s", (message,))
            assert await nudges.plan(conn, known(url)) == 0, state
            assert await nudges.plan(conn, known(url)) == 0, "also when it is done and pruned"
            await conn.execute("DELETE FROM messages")
            assert await nudges.plan(conn, known(url)) == 0
            by = await conn.value("SELECT user_id FROM timers WHERE id = %s", (timer,))
            await nudges.ask_again(conn, timer, user_id=by, hours=0)
            assert await nudges.plan(conn, known(url)) == 1
            await conn.execute("DELETE FROM messages")

    over(url, work)


def test_what_is_set_for_a_timer_that_has_ended_does_not_touch_the_next_ones_nudge(url: str) -> None:
    async def work(conn: Connection) -> None:
        ended = await running(conn, 9)
        by, task = await conn.one("SELECT user_id, task_id FROM timers")
        found = await nudges.get_timer(conn, NudgeOwner(timer_id=ended, user_id=by), hours=8)
        await conn.execute("DELETE FROM timers")
        following = await again(conn, by, task, 8.5)
        assert found is not None and await nudges.plan(conn, known(url)) == 1
        row = await conn.one("SELECT timer_id, next_at FROM slack_nudges")
        await nudges.ask_again(conn, ended, user_id=by, hours=0)
        await nudges.postpone(conn, found, NudgeOwner(timer_id=ended, user_id=by), hours=8)
        assert await conn.one("SELECT timer_id, next_at FROM slack_nudges") == row == (following, None)

    over(url, work)


def test_the_timers_of_a_transaction_are_few_and_all_that_are_due_are_nudged(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "MOST", 2)

    async def work(conn: Connection) -> None:
        timers_due = [await running(conn, 9) for _ in range(5)]
        transactions = "SELECT count(DISTINCT xmin::text) FROM slack_nudges"
        assert await nudges.plan(conn, known(url)) == 5
        assert await conn.value(transactions) == 3
        assert await planned(conn) == ids(*timers_due)

    over(url, work)


OUTBOX = """
    INSERT INTO messages (id, actor, queue, body, max_attempts, state, available_at, delivery_number, sent_at, done_at)
    SELECT gen_random_uuid(), 'nudge_owner', CASE WHEN state = 'done' THEN 'slack' ELSE 'bills' END,
           jsonb_build_object('timer_id', gen_random_uuid(), 'user_id', gen_random_uuid()), 15, state, now(), 1,
           CASE WHEN state = 'sent' THEN now() END, CASE WHEN state = 'done' THEN now() - interval '3 days' END
    FROM generate_series(1, %s) AS number, unnest(ARRAY['done', 'done', 'done', 'ready', 'sent']) AS state
"""


@pytest.mark.parametrize("analyzed", [False, True], ids=["grown", "analyzed"])
def test_a_nudge_reads_none_of_a_full_outbox(url: str, analyzed: bool) -> None:
    """Neither a plan that was made while the outbox was nearly empty, nor one for its size, reads all messages."""

    async def work(conn: Connection) -> tuple[int, int]:
        await conn.execute("ALTER TABLE messages SET (autovacuum_enabled = false)")
        due = [await running(conn, 9) for _ in range(20)]
        for _ in range(12):  # a plan without values is tried from the sixth time on
            async with conn.transaction(force_rollback=True):
                assert await nudges.plan(conn, known(url)) == len(due)
        await conn.execute(OUTBOX, (4_000,))
        if analyzed:
            await conn.execute("ANALYZE messages")
        async with conn.transaction(force_rollback=True):
            assert await nudges.plan(conn, known(url)) == len(due)
            return await conn.one(
                "SELECT seq_tup_read::int, idx_tup_fetch::int FROM pg_stat_xact_user_tables WHERE relname = 'messages'"
            )

    read = over(url, work)
    assert sum(read) < 1_000, read
