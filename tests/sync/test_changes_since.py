"""What a reader of live events learns, read by read: each change once, whenever its transaction commits, and for whom."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from api.sync.event_batches import Batch, Batches, Interest
from api.sync.event_listeners import MAX_EVENTS_PER_WRITE, MAX_PENDING, RESET, Subscriber, Subscribers
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
        expected = Change(Kind.time_bill, bill, rows.customer if is_theirs else None, rows.user)
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


def batch(numbers: range) -> Batch:
    events = {f"event {number}\n".encode(): None for number in numbers}
    return Batch(events, b"".join(events))


def test_events_are_built_once_for_all_streams_that_get_the_same() -> None:
    changes = [Change(Kind.task, UUID(int=number), UUID(int=1 + number % 3)) for number in range(100)]
    batches = Batches(changes)
    of_customers = [user_of(number) for number in (None, 1, 2, 3)]
    interests = [Interest(), Interest(frozenset({Kind.task})), Interest(own=True)]
    people = [user.model_copy(update={"id": UUID(int=1_000 + number)}) for number, user in enumerate(of_customers * 50)]
    built = {id(batches.of(user, interest)) for user in people for interest in interests}
    assert len(built) == len(of_customers) * len(interests)


def test_a_stream_gets_only_what_it_asked_for() -> None:
    me, other = user_of(None), UUID(int=999)
    changes = [
        Change(Kind.task, UUID(int=1), None),
        Change(Kind.active_timer, me.id, None, me.id),
        Change(Kind.active_timer, other, None, other),
        Change(Kind.time_bill, UUID(int=2), None, me.id),
        Change(Kind.time_bill, UUID(int=3), None, other),
        Change(Kind.focus, other, None, other),
    ]

    def found(interest: Interest) -> list[int]:
        events = list(Batches(changes).of(me, Interest()).events)
        return [events.index(event) for event in Batches(changes).of(me, interest).events]

    assert found(Interest()) == [0, 1, 2, 3, 4, 5]
    assert found(Interest(own=True)) == [0, 1, 3]
    assert found(Interest(frozenset({Kind.active_timer, Kind.focus}))) == [1, 2, 5]
    assert found(Interest(frozenset({Kind.active_timer, Kind.focus}), own=True)) == [1]
    assert found(Interest(frozenset())) == []


def test_a_stream_with_own_events_does_not_get_those_of_another() -> None:
    one, other = user_of(None), user_of(None).model_copy(update={"id": UUID(int=999)})
    batches = Batches([Change(Kind.focus, user.id, None, user.id) for user in (one, other)])
    for user in (one, other):
        assert str(user.id) in batches.of(user, Interest(own=True)).text.decode()


def test_streams_that_share_a_batch_read_it_at_their_own_pace() -> None:
    fast, slow = (Subscriber(user_of(None)) for _ in range(2))
    shared, more = batch(range(MAX_EVENTS_PER_WRITE + 1)), batch(range(1_000, 1_002))
    for subscriber in (fast, slow):
        subscriber.publish(shared)
    first = fast.take_pending()
    for subscriber in (fast, slow):
        subscriber.publish(more)
    assert first + fast.take_pending() == slow.take_pending() + slow.take_pending() == shared.text + more.text
    assert fast.take_pending() == slow.take_pending() == b""
    assert (len(shared.events), len(more.events)) == (MAX_EVENTS_PER_WRITE + 1, 2)


def test_a_listener_that_does_not_read_costs_bounded_memory() -> None:
    subscriber = Subscriber(user_of(None))
    subscriber.publish(batch(range(1_001)))
    assert MAX_PENDING == 1_000
    assert subscriber.take_pending() == RESET
    subscriber.reset()
    subscriber.publish(batch(range(1)))
    assert subscriber.take_pending() == RESET and subscriber.take_pending() == b""
