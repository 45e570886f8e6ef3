"""The message of the day about time bills to approve: who gets it, when, and how often."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import ValidationError

from actors.runtime import rescuer
from schemas.identity.users import User
from schemas.messages import PostApprovals
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import daily, planning
from tests.outbox.rows import over
from tests.slack.approving import pressed, shown, statuses, updated
from tests.support import firm_rows
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox

NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PLANNED = "SELECT body->>'user_id' FROM messages WHERE actor = 'post_approvals' ORDER BY 1"


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def at_noon() -> tuple[str, date]:
    """A time zone in which it is between 11:30 and 12:30 now, and the day there."""
    now = datetime.now(UTC)
    hours = 12 - (now + timedelta(minutes=30)).hour  # from -11 to 12
    return f"Etc/GMT{-hours:+d}", (now + timedelta(hours=hours)).date()  # the sign is the other way round in these names


def known(url: str, **more: Any) -> Settings:
    """Settings with which the messages are due, unless `more` says otherwise."""
    zone, day = at_noon()
    values = {
        "slack_bot_token": "xoxb-1",
        "stint_timezone": zone,
        "stint_approvals_time": "11:00",
        "stint_working_days": NAMES[day.weekday()],
    }
    return Settings(database_url=url, secret_key=SECRET_KEY, **values | more)


async def bill_of_yesterday(conn: Connection) -> User:
    """An admin, whose bill of yesterday is pending."""
    admin = await firm_rows.user(conn)
    rows = await firm_rows.firm(conn, by=admin.id)
    await firm_rows.bill(conn, rows, date=at_noon()[1] - timedelta(days=1))
    return admin


def test_each_admin_gets_one_message_on_a_working_day_after_the_time(url: str) -> None:
    async def work(conn: Connection) -> None:
        admins = [await bill_of_yesterday(conn), await firm_rows.user(conn)]
        await firm_rows.user(conn, "internal_user")
        await firm_rows.user(conn, revoked_at="2026-01-01")
        twin = await firm_rows.user(conn, email="both@example.com")
        customer = await conn.value("SELECT id FROM customers LIMIT 1")
        await firm_rows.user(conn, "customer_admin", email="Both@example.com", customer_id=customer)
        day = at_noon()[1]
        for setting in (
            {"stint_approvals_time": "off"},
            {"stint_approvals_time": "13:00"},
            {"stint_working_days": NAMES[(day.weekday() + 1) % 7]},
            {"slack_bot_token": None},
        ):
            assert await planning.plan(conn, known(url, **setting)) == 0
        assert await conn.value("SELECT count(*) FROM slack_approval_days") == 0

        assert await planning.plan(conn, known(url)) == 2
        assert await planning.plan(conn, known(url, stint_approvals_time="11:15")) == 0
        planned = await conn.values(PLANNED)
        assert planned == sorted(str(admin.id) for admin in admins) and str(twin.id) not in planned

    over(url, work)


def test_relays_that_plan_at_the_same_time_plan_once(url: str) -> None:
    async def work(conn: Connection) -> None:
        await bill_of_yesterday(conn)
        async with contextlib.AsyncExitStack() as stack:
            relays = [await stack.enter_async_context(await Connection.connect(url, autocommit=True)) for _ in range(6)]
            counts = await asyncio.gather(*(planning.plan(relay, known(url)) for relay in relays))
        assert sorted(counts) == [0] * 5 + [1]
        assert len(await conn.values(PLANNED)) == 1

    over(url, work)


def test_a_day_whose_messages_were_not_enqueued_is_planned_again(url: str) -> None:
    async def work(conn: Connection) -> None:
        await bill_of_yesterday(conn)
        await conn.execute("ALTER TABLE messages ADD CONSTRAINT full_disk CHECK (actor <> 'post_approvals')")
        with pytest.raises(psycopg.errors.CheckViolation):
            await planning.plan(conn, known(url))
        await conn.execute("ALTER TABLE messages DROP CONSTRAINT full_disk")
        await rescuer.rescue_once(conn, known(url))
        await rescuer.rescue_once(conn, known(url))
        assert len(await conn.values(PLANNED)) == 1

    over(url, work)


def test_without_a_bill_to_approve_nobody_gets_a_message(url: str) -> None:
    async def work(conn: Connection) -> None:
        rows = await firm_rows.firm(conn, by=(await firm_rows.user(conn)).id)
        day = at_noon()[1]
        await firm_rows.bill(conn, rows, date=day)
        await firm_rows.bill(conn, rows, date=day - timedelta(days=1), status="approved")
        await firm_rows.bill(conn, rows, date=day - timedelta(days=2), status="rejected")
        assert await planning.plan(conn, known(url)) == 0
        await firm_rows.bill(conn, rows, date=day - timedelta(days=3))
        assert await planning.plan(conn, known(url)) == 0, "it is decided once a day, so a later bill waits until tomorrow"

    over(url, work)


def test_what_is_not_true_any_more_when_it_is_sent_is_not_sent(url: str) -> None:
    async def work(conn: Connection) -> None:
        admin, day = await bill_of_yesterday(conn), at_noon()[1]

        async def is_sent(day: date = day) -> bool:
            message = PostApprovals(user_id=admin.id, day=day)
            return await daily.build(conn, message, settings=known(url)) is not None

        assert await is_sent()
        assert not await is_sent(day - timedelta(days=1))
        for change, back in (
            ("UPDATE users SET role = 'internal_user'", "UPDATE users SET role = 'internal_admin'"),
            ("UPDATE users SET revoked_at = now()", "UPDATE users SET revoked_at = NULL"),
            (
                "UPDATE time_bills SET status = 'rejected', rejection_note = 'x'",
                "UPDATE time_bills SET status = 'pending', rejection_note = NULL",
            ),
        ):
            await conn.execute(change)
            assert not await is_sent(), change
            await conn.execute(back)
            assert await is_sent(), back

    over(url, work)


@pytest.mark.parametrize(
    ("value", "days"),
    [
        ("mon-fri", [1, 2, 3, 4, 5]), ("sun-thu", [1, 2, 3, 4, 7]), ("Mon, wed,FRI", [1, 3, 5]), ("sat", [6]),
        ("mon-sun", [1, 2, 3, 4, 5, 6, 7]), ("fri-mon,wed", [1, 3, 5, 6, 7]),
    ],
)  # fmt: skip
def test_working_days_are_days_and_ranges(value: str, days: list[int]) -> None:
    assert known("", stint_working_days=value).working_days == days


@pytest.mark.parametrize("value", ["", "monday", "mon-", "-fri", "mon-fri-sun", "1-5", "mon;fri", ","])
def test_other_working_days_are_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="mon-fri"):
        known("", stint_working_days=value)


@pytest.mark.parametrize("value", ["9:00", "24:00", "09:60", "0900", "9", "OFF", "09:00\n", "٠٩:٠٠"])
def test_other_times_are_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="09:00"):
        known("", stint_approvals_time=value)


@pytest.fixture
def firm(own: Installation, slack: SlackSandbox) -> Iterator[Given]:
    """An installation of its own, connected to the stand-in, with an API only; its messages are due at once."""
    own.environment |= slack.environment | {"STINT_APPROVALS_TIME": "00:00", "STINT_WORKING_DAYS": "mon-sun"}
    given = Given(own.start("api").wait_until_ready())
    yield given
    given.close()


def test_the_message_of_the_day_arrives_once_also_when_processes_are_killed(
    firm: Given, own: Installation, slack: SlackSandbox
) -> None:
    by, admins = firm.person(), [firm.admin(), firm.admin(), firm.admin()]
    ids = firm.many_bills(by, firm.task(by), 2, first="2026-03-02")
    first, second = (Member(slack, own, slack.user(admin.email), "D0123") for admin in admins[:2])
    slack.user(admins[2].email, deleted=True)  # has left the workspace

    own.start("relay", "work")
    eventually(lambda: slack.messages(first.id) and slack.messages(second.id), why=own.log("work")[-1500:])
    for name in ("relay", "work"):
        own.kill(name)
    own.start("relay", "work", "work:slack")
    done = "SELECT count(*) FROM messages WHERE actor = 'post_approvals' AND state IN ('done', 'dead')"
    eventually(lambda: own.value(done) == 3, why=own.log("work")[-1500:])

    assert own.value("SELECT count(*) FROM messages WHERE actor = 'post_approvals'") == 3
    [message] = slack.messages(first.id)
    assert len(slack.messages(second.id)) == 1
    assert "2 time bills of days before today to approve: 2:00 h" in shown(message["blocks"])
    now = updated(first, pressed(first, message["blocks"], "Approve"))
    assert "Approved: 2 time bills" in shown(now) and "nothing to approve" in shown(now)
    assert statuses(by, ids) == ["approved"] * 2
    again = updated(second, pressed(second, slack.messages(second.id)[0]["blocks"], "Approve"))
    assert f"approved already, by {admins[0].email.partition('@')[0]}" in shown(again)
    assert UUID(admins[0].id) == UUID(by.get(f"/api/time-bills/{ids[0]}")["approvedBy"])


def test_who_asks_twice_for_the_list_gets_it_once(url: str) -> None:
    async def work(conn: Connection) -> None:
        admin = await firm_rows.user(conn)
        await conn.execute(  # the message of the day, which is planned
            """
            INSERT INTO messages (id, actor, queue, body, max_attempts, available_at) VALUES
                (gen_random_uuid(), 'post_approvals', 'slack', json_build_object('user_id', %s::uuid), 1, now() + interval '1h')
            """,
            (admin.id,),
        )
        for expected in (2, 2):
            await daily.send_now(conn, admin.id, settings=known(url))
            assert await conn.values(PLANNED) == [str(admin.id)] * expected

    over(url, work)
