"""What a reader of live events learns, read by read: each change once, whenever its transaction commits, and for whom."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from api.sync.event_listeners import MAX_PENDING, RESET, Subscriber, Subscribers
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.sync.live_events import Change, Changes, Kind, Snapshot, changes_since, current_snapshot
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_a_change_that_commits_late_comes_once_after_its_commit(url: str) -> None:
    async def check(conn: Connection) -> list[list[str]]:
        early, late, later = [(await firm_rows.firm(conn)).task for _ in range(3)]
        touch = "UPDATE tasks SET title = title || '!' WHERE id = %s"
        snapshot, seen = await current_snapshot(conn), list[list[str]]()

        async def read() -> None:
            nonlocal snapshot
            changes = await changes_since(conn, snapshot)
            snapshot = changes.snapshot
            names = {early: "early", late: "late", later: "later"}
            seen.append(sorted(names[change.id] for change in changes.changes))

        async with connected(url) as other:
            async with other.transaction():
                await other.execute(touch, (late,))
                await conn.execute(touch, (early,))
                await read()
                await conn.execute(touch, (later,))
                await read()
            await read()
        await read()
        return seen

    assert over(url, check) == [["early"], ["later"], ["late"], []]


@pytest.mark.parametrize(("status", "is_theirs"), [("pending", False), ("rejected", False), ("approved", True)])
def test_a_customers_users_learn_of_approved_bills_only(status: str, is_theirs: bool, url: str) -> None:
    async def check(conn: Connection) -> list[Change]:
        rows = await firm_rows.firm(conn)
        snapshot = await current_snapshot(conn)
        more: dict[str, Any] = {"xero_status": "queued"} if status == "approved" else {}
        bill = await firm_rows.bill(conn, rows, status=status, **more)
        expected = Change(Kind.time_bill, bill, rows.customer if is_theirs else None)
        return [expected, *(await changes_since(conn, snapshot)).changes]

    expected, *found = over(url, check)
    assert found == [expected]


def test_the_customer_that_a_task_or_a_bill_leaves_learns_that_it_is_gone(url: str) -> None:
    async def check(conn: Connection) -> bool:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows, status="approved", xero_status="queued")
        snapshot = await current_snapshot(conn)
        await conn.execute("INSERT INTO task_moves (task_id, customer_id) VALUES (%s, %s)", (rows.task, rows.customer))
        reopen = """
            UPDATE time_bills SET status = 'pending', approved_by = NULL, approved_at = NULL, approved_seconds = NULL,
                xero_status = 'none' WHERE id = %s
        """
        await conn.execute(reopen, (bill,))
        found = {(change.kind, change.customer_id) for change in (await changes_since(conn, snapshot)).changes}
        return found == {(Kind.task, rows.customer), (Kind.time_bill, rows.customer), (Kind.time_bill, None)}

    assert over(url, check) is True


def test_the_end_of_a_timer_is_a_change_and_of_interest_to_the_firm_only(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[str, bool, UUID | None]]:
        rows = await firm_rows.firm(conn)
        insert = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, '2026-03-02')"
        await conn.execute(insert, (rows.user, rows.task))
        snapshot = await current_snapshot(conn)
        await conn.execute("DELETE FROM timers WHERE user_id = %s", (rows.user,))
        changes = (await changes_since(conn, snapshot)).changes
        return [(change.kind, change.id == rows.user, change.customer_id) for change in changes]

    assert over(url, check) == [("activeTimer", True, None)]


def test_a_changed_user_is_named_so_that_streams_check_their_access(url: str) -> None:
    async def check(conn: Connection) -> bool:
        user = await firm_rows.user(conn)
        snapshot = await current_snapshot(conn)
        await conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (user.id,))
        return (await changes_since(conn, snapshot)).users == frozenset({user.id})

    assert over(url, check) is True


def user_of(customer: int | None) -> User:
    role = Role.internal if customer is None else Role.customer_user
    return User(
        id=UUID(int=100 + (customer or 0)), email="", name="", role=role, customer_id=UUID(int=customer) if customer else None
    )


def subscribers(*of: int | None) -> tuple[Subscribers, list[Subscriber]]:
    """Subscribers that are internal (None) or of these customers."""
    all_of_them = Subscribers(Settings(database_url="", secret_key=SECRET_KEY))
    found = [Subscriber(user_of(customer)) for customer in of]
    all_of_them._subscribers.update(found)
    return all_of_them, found


def texts(found: list[Subscriber]) -> list[str]:
    return [subscriber.take_pending().decode() for subscriber in found]


def test_an_event_goes_to_the_firm_and_to_its_own_customer() -> None:
    hub, found = subscribers(None, 1, 2)
    changes = [Change(Kind.task, UUID(int=7), UUID(int=1)), Change(Kind.focus, UUID(int=8), None)]
    asyncio.run(hub._publish(Changes(Snapshot("s", None), changes, too_many=False, users=frozenset())))
    firm, own, other = texts(found)
    assert str(UUID(int=7)) in firm and str(UUID(int=8)) in firm
    assert str(UUID(int=7)) in own and str(UUID(int=8)) not in own
    assert other == ""


def test_too_many_changes_are_a_reset_for_everybody() -> None:
    hub, found = subscribers(None, 1)
    asyncio.run(hub._publish(Changes(Snapshot("s", None), [], too_many=True, users=frozenset())))
    assert texts(found) == [RESET.decode()] * 2


def test_access_is_checked_again_for_a_user_whose_row_changed() -> None:
    hub, found = subscribers(1, 2)
    asyncio.run(hub._publish(Changes(Snapshot("s", None), [], too_many=False, users=frozenset({UUID(int=101)}))))
    assert [subscriber.must_recheck_access for subscriber in found] == [True, False]
    asyncio.run(hub._publish(Changes(Snapshot("s", None), [], too_many=False, users=None)))
    assert [subscriber.must_recheck_access for subscriber in found] == [True, True]


def test_a_listener_that_does_not_read_costs_bounded_memory() -> None:
    subscriber = Subscriber(user_of(None))
    subscriber.publish({f"event {number}".encode(): None for number in range(1_001)})
    assert MAX_PENDING == 1_000
    assert subscriber.take_pending() == RESET
    subscriber.reset()
    subscriber.publish({b"event": None})
    assert subscriber.take_pending() == RESET and subscriber.take_pending() == b""
