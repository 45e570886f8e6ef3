"""Bills that have failed are sent to Xero again: each step alone, in a database without workers."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.errors import Conflict
from schemas.identity.users import Role, User
from schemas.messages import SyncBill
from schemas.outbox import failed_attempts, outbox
from schemas.outbox.dead_letters import actions
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.outbox import State
from schemas.postgres.connection import Connection
from schemas.xero import backlog, sending
from schemas.xero.sending import FailedBills, SendAnswer
from tests.outbox.rows import connected, message, over, states
from tests.support import firm_rows


async def bill(conn: Connection, xero_status: str = "failed", **columns: Any) -> UUID:
    rows = await firm_rows.firm(conn)
    return await firm_rows.bill(conn, rows, status="approved", xero_status=xero_status, xero_error="no", **columns)


async def sync_of(conn: Connection, bill_id: UUID, state: str = "dead") -> UUID:
    return await message(conn, state, actor="'sync_bill'", queue="'xero'", body=f"""'{{"bill_id": "{bill_id}"}}'""")


async def send(conn: Connection, *bill_ids: UUID) -> backlog.SentAgain:
    async with conn.transaction():
        return await backlog.send_again(conn, bill_ids, who="ann", reason="fixed")


async def shown(conn: Connection, bill_id: UUID) -> tuple[str, str | None]:
    found: tuple[str, str | None] = await conn.one("SELECT xero_status, xero_error FROM time_bills WHERE id = %s", (bill_id,))
    return found


async def messages_of(conn: Connection, bill_id: UUID) -> list[str]:
    return await conn.values(
        "SELECT state FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = %s ORDER BY state", (str(bill_id),)
    )


def test_a_failed_bills_dead_letter_is_replayed_with_all_attempts_of_a_bill(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        dead = await sync_of(conn, failed)
        answer = await send(conn, failed)
        assert (answer.sent, answer.skipped) == ([failed], {})
        assert await shown(conn, failed) == ("queued", None)
        assert await messages_of(conn, failed) == ["ready"]
        assert await conn.one("SELECT max_attempts - attempts, replays FROM messages WHERE id = %s", (dead,)) == (25, 1)
        assert await conn.all("SELECT message_id, who, action, reason FROM message_events") == [
            (dead, "ann", "replay", "fixed")
        ]

    over(url, check)


def test_only_the_failed_bills_that_a_person_has_seen_are_sent_and_none_if_one_has_changed(url: str) -> None:
    async def check(conn: Connection) -> None:
        async def send_shown(seen: FailedBills) -> SendAnswer:
            async with conn.transaction():
                return await sending.send_shown(conn, seen, reason="fixed", by=admin)

        first, second = await bill(conn), await bill(conn)
        user_id = await conn.value("SELECT user_id FROM time_bills WHERE id = %s", (first,))
        admin = User(id=user_id, email="ann@example.com", name="Ann", role=Role.admin, customer_id=None)
        seen = await sending.count_failed(conn)
        later = await bill(conn)
        await send(conn, first)  # by somebody else
        with pytest.raises(Conflict, match="of the 2 bills that had failed, 1 are as they were"):
            await send_shown(seen)
        assert await shown(conn, second) == ("failed", "no"), "nothing was sent"
        again = await sending.count_failed(conn)
        latest = await bill(conn)
        assert (await send_shown(again)).sent == 2
        statuses = [(await shown(conn, each))[0] for each in (second, later, latest)]
        assert statuses == ["queued", "queued", "failed"]

    over(url, check)


@pytest.mark.parametrize("left", [[], ["discarded"], ["done", "discarded"]])
def test_a_failed_bill_without_a_dead_letter_gets_a_new_message(left: list[str], url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        for state in left:
            await sync_of(conn, failed, state)
        assert (await send(conn, failed)).sent == [failed]
        assert await messages_of(conn, failed) == sorted([*left, "ready"])
        assert await shown(conn, failed) == ("queued", None)
        events = "SELECT e.who, e.reason FROM message_events e JOIN messages m ON m.id = e.message_id WHERE m.state = 'ready'"
        assert await conn.all(events) == [("ann", "fixed")]

    over(url, check)


def test_all_dead_letters_of_a_bill_are_replayed(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        dead = [await sync_of(conn, failed) for _ in range(3)]
        assert (await send(conn, failed)).sent == [failed]
        assert await states(conn, *dead) == ["ready"] * 3

    over(url, check)


@pytest.mark.parametrize("state", ["ready", "sent", "calling"])
def test_a_failed_bill_that_was_replayed_by_hand_is_not_sent_twice_and_shows_it(state: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        await sync_of(conn, failed, state)
        answer = await send(conn, failed)
        assert answer.sent == [] and "already" in answer.skipped[failed]
        assert await messages_of(conn, failed) == [state]
        assert await shown(conn, failed) == ("queued", None)

    over(url, check)


@pytest.mark.parametrize("status", ["none", "queued", "synced", "not_connected", "not_mapped", "withdrawing"])
def test_a_bill_that_has_not_failed_is_skipped_with_the_reason(status: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        other = await bill(conn, status)
        answer = await send(conn, other)
        assert (answer.sent, list(answer.skipped)) == ([], [other])
        assert await messages_of(conn, other) == []
        assert (await shown(conn, other))[0] == status

    over(url, check)


def test_a_bill_that_differs_is_sent_only_to_write_over_it(url: str) -> None:
    async def check(conn: Connection) -> None:
        differs, agrees, accepted = await bill(conn, "differs"), await bill(conn, "synced"), await bill(conn, "synced")
        await conn.execute("UPDATE time_bills SET xero_accepted = '{}' WHERE id = %s", (accepted,))
        for bill_id in (differs, agrees, accepted):
            query = """INSERT INTO xero_entries (bill_id, difference, accepted) VALUES (%s, '{"content": null}', %s)"""
            await conn.execute(query, (bill_id, bill_id == accepted))
        assert (await send(conn, differs, agrees, accepted)).sent == []
        async with conn.transaction():
            answer = await backlog.send_again(
                conn, [differs, agrees, accepted], who="ann", reason="as in Stint", overwrite=True
            )
        assert answer.sent == [differs, accepted] and list(answer.skipped) == [agrees]
        rows = dict(await conn.all("SELECT bill_id, overwrite AND NOT accepted FROM xero_entries"))
        assert rows == {differs: True, agrees: False, accepted: True}
        assert [await shown(conn, bill_id) for bill_id in (differs, accepted)] == [("queued", None)] * 2
        assert [await messages_of(conn, bill_id) for bill_id in (differs, accepted)] == [["ready"]] * 2

    over(url, check)


def test_a_dead_letter_that_a_synced_bill_still_has_is_replayed(url: str) -> None:
    async def check(conn: Connection) -> None:
        synced = await bill(conn, "synced")
        dead = await sync_of(conn, synced)
        answer = await send(conn, synced)
        assert answer.sent == [] and "In Xero already".lower() in answer.skipped[synced].lower()
        assert await states(conn, dead) == ["ready"]
        assert (await shown(conn, synced))[0] == "synced"

    over(url, check)


def test_an_unknown_and_a_deleted_bill_are_skipped(url: str) -> None:
    async def check(conn: Connection) -> None:
        unknown = uuid4()
        rows = await firm_rows.firm(conn)
        deleted = await firm_rows.bill(conn, rows, deleted_at="2026-03-03")
        assert set((await send(conn, unknown, deleted)).skipped.values()) == {"There is no such time bill."}

    over(url, check)


def test_a_failed_withdrawal_continues_as_a_withdrawal(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        await conn.execute("INSERT INTO xero_entries (bill_id, withdrawing) VALUES (%s, true)", (failed,))
        await sync_of(conn, failed)
        assert (await send(conn, failed)).sent == [failed]
        assert await shown(conn, failed) == ("withdrawing", None)

    over(url, check)


def test_two_concurrent_requests_send_each_bill_once(url: str) -> None:
    async def check(conn: Connection) -> None:
        with_letter, without = await bill(conn), await bill(conn)
        await sync_of(conn, with_letter)

        async def one() -> backlog.SentAgain:
            async with await Connection.connect(url, autocommit=True) as other:
                return await send(other, with_letter, without)

        answers = await asyncio.gather(*(one() for _ in range(4)))
        assert sorted(len(answer.sent) for answer in answers) == [0, 0, 0, 2]
        assert await messages_of(conn, with_letter) == ["ready"] and await messages_of(conn, without) == ["ready"]

    over(url, check)


def test_a_dead_letter_that_somebody_else_is_changing_is_not_waited_for(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed, free = await bill(conn), await bill(conn)
        dead = await sync_of(conn, failed)
        await sync_of(conn, free)
        async with connected(url) as other, other.transaction():
            await outbox.lock(other, dead)  # as an edit or a replay does
            answer = await send(conn, failed, free)
        assert answer.sent == [free] and "at this moment" in answer.skipped[failed]
        assert await messages_of(conn, failed) == ["dead"]
        assert (await send(conn, failed)).sent == [failed]

    over(url, check)


def test_only_the_dead_letters_of_these_bills_are_replayed(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed, other = await bill(conn), await bill(conn)
        dead = [await sync_of(conn, other), await message(conn, "dead", body=f"""'{{"bill_ids": ["{failed}"]}}'""")]
        await send(conn, failed)
        assert await states(conn, *dead) == ["dead", "dead"]
        assert (await shown(conn, other)) == ("failed", "no")

    over(url, check)


def test_after_it_was_sent_again_a_bill_is_retried_for_hours(url: str) -> None:
    async def check(conn: Connection) -> None:
        failed = await bill(conn)
        dead = await sync_of(conn, failed)
        await send(conn, failed)
        waits: list[float] = []
        state = State.ready
        while state is State.ready:
            record = await outbox.lock(conn, dead)
            assert record is not None
            state = await failed_attempts.record_failed_attempt(conn, record, Failure("E", "no", "", "w"), base_seconds=1)
            wait = "SELECT extract(epoch FROM available_at - clock_timestamp())::float FROM messages WHERE id = %s"
            waits.append(await conn.value(wait, (dead,)))
        assert len(waits) == SyncBill.max_attempts
        assert waits[0] < 2 and waits[1] < waits[3] < waits[6] and sum(waits) > 2 * 3600
        # a person's replay grants few attempts, and its waits are short again
        await actions.replay(conn, [dead], who="ann", reason="fixed")
        record = await outbox.lock(conn, dead)
        assert record is not None
        await failed_attempts.record_failed_attempt(conn, record, Failure("E", "no", "", "w"), base_seconds=1)
        assert await conn.value(wait, (dead,)) < 2

    over(url, check)
