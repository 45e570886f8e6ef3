"""Reminders of missing hours and of a running timer at the end of a person's working day, and the summary of the week before:
who gets them, when, how often, and what their buttons do."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from ops.sandbox.slack.checks import check_message
from schemas.identity import working_hours
from schemas.identity.users import User
from schemas.identity.working_hours import WorkingHoursChange
from schemas.messages import RemindOfHours
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals.direct import DirectMessage, Wait
from schemas.slack.reminders import messages, planning
from schemas.slack.typed.parser import NearMiss, Run, parse_plain
from tests.outbox.rows import over
from tests.slack.approving import button, pressed, shown
from tests.slack.test_commands import running
from tests.slack.test_daily_approvals import NAMES, at_noon
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox

PLANNED = "SELECT body->>'user_id' FROM messages WHERE actor = 'remind_of_hours' ORDER BY 1"
# Read once, so that they are the same in all of a test; the tests may run up to an hour later.
ZONE, DAY = at_noon()
OFFSET = timedelta(hours=-int(ZONE.removeprefix("Etc/GMT")))  # the sign is the other way round in these names
EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def known(url: str, **more: Any) -> Settings:
    """Settings with which the working day has ended half an hour ago, or a bit more, unless `more` says otherwise."""
    values = {
        "slack_bot_token": "xoxb-1",
        "stint_timezone": ZONE,
        "stint_working_days": "mon-sun",
        "stint_working_hours": "00:00-11:00",
    }
    return Settings(database_url=url, secret_key=SECRET_KEY, **values | more)


def in_minutes(minutes: float) -> str:
    """The time of day in ZONE, that many minutes from now."""
    return f"{datetime.now(UTC) + OFFSET + timedelta(minutes=minutes):%H:%M}"


async def change(conn: Connection, user_id: UUID, settings: Settings, **values: Any) -> None:
    async with conn.transaction():
        await working_hours.change(conn, user_id, WorkingHoursChange.model_validate(values), settings=settings)


def off(first: date, last: date | None = None) -> list[dict[str, str]]:
    return [{"from": first.isoformat(), "to": (last or first).isoformat()}]


def test_each_person_gets_one_message_at_the_end_of_their_working_day(url: str) -> None:
    async def work(conn: Connection) -> None:
        settings, day = known(url), DAY
        people = [await firm_rows.user(conn, role) for role in ("internal_admin", "internal_user", "internal_user")]
        customer = (await firm_rows.firm(conn, by=people[0].id)).customer
        await firm_rows.user(conn, revoked_at="2026-01-01")
        await firm_rows.user(conn, "customer_user", customer_id=customer)
        await firm_rows.user(conn, email="both@example.com")
        await firm_rows.user(conn, "customer_admin", email="Both@example.com", customer_id=customer)
        unwilling, away, later, other_days = [await firm_rows.user(conn, "internal_user") for _ in range(4)]
        await change(conn, unwilling.id, settings, reminders=False)
        await change(conn, away.id, settings, daysOff=off(day - timedelta(days=3), day))
        await change(conn, later.id, settings, end="23:00")
        await change(conn, other_days.id, settings, days=[NAMES[(day.weekday() + 1) % 7]])
        for setting in (
            {"stint_working_hours": f"00:00-{in_minutes(30)}"},
            {"stint_working_hours": f"00:00-{in_minutes(-185)}"},  # an outage has lasted for too long
            {"stint_working_days": NAMES[(day.weekday() + 2) % 7]},
            {"slack_bot_token": None},
            {"stint_reminders": "off"},
        ):
            assert await planning.plan(conn, known(url, **setting)) == 0, setting
        assert await conn.value("SELECT count(*) FROM slack_reminder_days") == 0
        await change(conn, people[2].id, settings, reminders=True)
        assert await planning.plan(conn, known(url, stint_reminders="off")) == 1, "who has turned them on gets them"

        assert await planning.plan(conn, settings) == 2
        assert await planning.plan(conn, settings) == 0
        assert await planning.plan(conn, known(url, stint_working_hours="00:00-11:10")) == 0, "the day has its message"
        assert await conn.values(PLANNED) == sorted(str(person.id) for person in people)

    over(url, work)


def test_the_message_is_planned_before_the_end_and_becomes_due_then(url: str) -> None:
    async def work(conn: Connection) -> None:
        person, end = await firm_rows.user(conn, "internal_user"), in_minutes(10)
        assert await planning.plan(conn, known(url, stint_working_hours=f"00:00-{end}")) == 1
        due = await conn.value(
            "SELECT available_at = (%s::date + %s::time) AT TIME ZONE %s FROM messages WHERE body->>'user_id' = %s",
            (DAY, end, ZONE, str(person.id)),
        )
        assert due is True

    over(url, work)


def test_relays_that_plan_at_the_same_time_plan_once(url: str) -> None:
    async def work(conn: Connection) -> None:
        people = [await firm_rows.user(conn, "internal_user") for _ in range(5)]
        async with contextlib.AsyncExitStack() as stack:
            relays = [await stack.enter_async_context(await Connection.connect(url, autocommit=True)) for _ in range(6)]
            counts = await asyncio.gather(*(planning.plan(relay, known(url)) for relay in relays))
        assert sum(counts) == 5
        assert await conn.values(PLANNED) == sorted(str(person.id) for person in people)

    over(url, work)


async def worked(conn: Connection, rows: FirmRows, hours: float, day: date | None = None) -> None:
    """Hours on that day, or today until now."""
    now = datetime.now(UTC).replace(microsecond=0)
    entry: dict[str, Any] = {"start_time": now - timedelta(hours=hours), "end_time": now}
    if day is not None:
        start = datetime.combine(day, datetime.min.time(), UTC) - OFFSET + timedelta(hours=1)
        entry = {"start_time": start, "end_time": start + timedelta(hours=hours), "date": day}
    await firm_rows.entry(conn, rows, None, **entry)


async def timer(conn: Connection, rows: FirmRows, hours: float) -> UUID:
    timer_id = uuid4()
    await conn.execute(
        """
        INSERT INTO timers (id, user_id, task_id, start_time)
        VALUES (%s, %s, %s, date_trunc('second', now(), 'UTC') - make_interval(mins => %s))
        """,
        (timer_id, rows.user, rows.task, round(hours * 60)),
    )
    return timer_id


def test_what_is_not_true_any_more_when_it_is_sent_is_not_sent(url: str) -> None:
    async def work(conn: Connection) -> None:
        settings, day = known(url, stint_hours_a_day=4), DAY
        person = await firm_rows.user(conn, "internal_user")
        rows = await firm_rows.firm(conn, by=person.id)

        async def build(day: date = day, **more: Any) -> DirectMessage | Wait | None:
            chosen = settings.model_copy(update=more)
            return await messages.build(conn, RemindOfHours(user_id=person.id, day=day), settings=chosen)

        async def text() -> str:
            built = await build()
            assert isinstance(built, DirectMessage)
            return shown(built.blocks)

        assert "You have 0:00 of 4:00 hours today" in await text()
        assert await build(day - timedelta(days=1)) is None and await build(day + timedelta(days=1)) is None
        assert await build(slack_bot_token=None) is None
        for kept, changed in (
            ({"reminders": True}, {"reminders": False}),
            ({"daysOff": None}, {"daysOff": off(day)}),
            ({"days": EVERY_DAY}, {"days": [NAMES[(day.weekday() + 1) % 7]]}),
            ({"end": None, "hoursPerDay": None}, {"end": in_minutes(-185), "hoursPerDay": 1}),  # it is hours late
        ):
            await change(conn, person.id, settings, **changed)
            assert await build() is None, changed
            await change(conn, person.id, settings, **kept)
            assert await build() is not None, kept
        await change(conn, person.id, settings, end=in_minutes(60))
        later = await build()
        assert isinstance(later, Wait) and 58 * 60 < later.seconds <= 60 * 60, "it waits for the new end"
        await change(conn, person.id, settings, end=None)
        await conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (person.id,))
        assert await build() is None
        await conn.execute("UPDATE users SET revoked_at = NULL WHERE id = %s", (person.id,))

        await worked(conn, rows, 3.5)
        assert f"You have 3:30 of 4:00 hours today ({day:%A}, {ZONE})." in await text()
        await worked(conn, rows, 0.3)
        assert await build() is None, "a few minutes are not missing"
        timer_id = await timer(conn, rows, 0.1)
        assert "with your running timer" in await text() and "Your timer runs on Servers, since" in await text()
        nudged = await firm_nudge(conn, person, timer_id)
        assert await build() is None, "the nudge about it has just come"
        await conn.execute("UPDATE messages SET done_at = now() - interval '61 minutes' WHERE id = %s", (nudged,))
        await conn.execute("UPDATE timers SET start_time = start_time - interval '4 hours' WHERE id = %s", (timer_id,))
        built = await build()
        assert isinstance(built, DirectMessage)
        assert button(built.blocks, f"Stop at 11:00 {ZONE}")["value"].startswith(str(timer_id))
        assert await build() is not None

    over(url, work)


async def firm_nudge(conn: Connection, person: User, timer_id: UUID) -> UUID:
    """A nudge about the timer that was posted just now."""
    message_id: UUID = await conn.value(
        """
        INSERT INTO messages (id, actor, queue, body, max_attempts, state, done_at)
        VALUES (gen_random_uuid(), 'nudge_owner', 'slack',
                jsonb_build_object('timer_id', %s::text, 'user_id', %s::text), 15, 'done', now()) RETURNING id
        """,
        (str(timer_id), str(person.id)),
    )
    await conn.execute("INSERT INTO slack_posts (message_id, channel_id, ts) VALUES (%s, 'U1', '1.1')", (message_id,))
    return message_id


def test_the_first_working_day_of_a_week_has_the_summary_of_the_week_before(url: str) -> None:
    async def work(conn: Connection) -> None:
        day = DAY
        last = day - timedelta(days=day.weekday() + 7)
        # the only working day of a week is also its first one
        settings = known(url, stint_working_days=NAMES[day.weekday()], stint_working_hours="11:00-23:00", stint_hours_a_day=8)
        person, new, away = [await firm_rows.user(conn, "internal_user") for _ in range(3)]
        await conn.execute("UPDATE users SET created_at = %s WHERE id <> %s", (last, new.id))
        await change(conn, away.id, settings, daysOff=off(last, last + timedelta(days=6)))
        rows = await firm_rows.firm(conn, by=person.id, name="A & B")
        await worked(conn, rows, 5.5, last + timedelta(days=day.weekday()))
        await worked(conn, rows, 1, last + timedelta(days=(day.weekday() + 1) % 7))
        await worked(conn, rows, 2, day)

        assert await planning.plan(conn, settings) == 1, "the others have their message at the end of the day, if at all"
        [body] = await conn.values("SELECT body FROM messages WHERE actor = 'remind_of_hours'")
        assert body == {"user_id": str(person.id), "day": day.isoformat(), "week": True}
        ended = settings.model_copy(update={"stint_working_hours": "01:00-11:00"})
        assert await planning.plan(conn, ended) == 2
        kinds = dict(await conn.all("SELECT (body->>'user_id')::uuid, body->>'week' FROM messages"))
        assert kinds == {person.id: "true", new.id: "false", away.id: "false"}, "never two on one day"

        built = await messages.build(conn, RemindOfHours(user_id=person.id, day=day, week=True), settings=settings)
        assert isinstance(built, DirectMessage)
        text = shown(built.blocks)
        assert "Last week you recorded 6:30 of 8:00 hours" in text and "Your timer runs" not in text
        assert "5:30 of 8:00" in text and ": 1:00\n" in text + "\n" and "6 h 30 min: Servers · A &amp; B" in text
        for _ in range(4):  # what does not fit into a block is counted
            long = await firm_rows.firm(conn, by=person.id, name="&" * 200)
            await conn.execute("UPDATE tasks SET title = repeat('&', 200) WHERE id = %s", (long.task,))
            await worked(conn, long, 1, last)
        built = await messages.build(conn, RemindOfHours(user_id=person.id, day=day, week=True), settings=settings)
        assert isinstance(built, DirectMessage)
        assert "other tasks" in shown(built.blocks)
        check_message(built.blocks)
        await conn.execute("UPDATE time_entries SET deleted_at = now()")
        built = await messages.build(conn, RemindOfHours(user_id=person.id, day=day, week=True), settings=settings)
        assert isinstance(built, DirectMessage)
        assert "0:00 of 8:00: nothing is recorded" in shown(built.blocks) and "By task" not in shown(built.blocks)

    over(url, work)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("reminders off", Run("reminders", "off")), ("Reminders ON", Run("reminders", "on")), ("reminders", Run("reminders")),
        ("reminders: off please", Run("reminders", "off")), ("my reminders", Run("reminders")),
    ],
)  # fmt: skip
def test_what_is_typed_about_reminders(typed: str, expected: Run) -> None:
    assert parse_plain(typed) == expected


def test_a_title_that_begins_with_reminders_is_asked_about() -> None:
    assert isinstance(parse_plain("Reminders for the customers"), NearMiss)
    assert isinstance(parse_plain("reminder"), NearMiss)


def test_reminders_are_turned_off_and_on_by_a_command(member: Member) -> None:
    answer = member.run_command("reminders on")
    assert "Your reminders are on." in answer["text"]
    assert "on already" in member.run_command("reminders on")["text"]
    off_answer = member.run_command("reminders off")
    assert "Your reminders are off." in off_answer["text"]
    path = pressed(member, off_answer["blocks"], "Turn on again")
    assert "Your reminders are on." in member.wait_for_answer(path)
    assert member.slack.answers(path)[0]["replace_original"] is True
    assert "Your reminders are on." in member.run_command("reminders")["text"]


@pytest.fixture
def firm(own: Installation, slack: SlackSandbox) -> Iterator[Given]:
    """An installation of its own with an API only, connected to the stand-in, where the working day has ended."""
    settings = known("")
    own.environment |= slack.environment | {
        "STINT_REMINDERS": "on", "STINT_TIMEZONE": settings.stint_timezone, "STINT_WORKING_DAYS": "mon-sun",
        "STINT_WORKING_HOURS": settings.stint_working_hours,
    }  # fmt: skip
    given = Given(own.start("api").wait_until_ready())
    yield given
    given.close()


def test_a_reminder_arrives_once_also_when_processes_are_killed_and_its_buttons_work(
    firm: Given, own: Installation, slack: SlackSandbox
) -> None:
    by, elsewhere, gone, done = firm.people(4)
    member = Member(slack, own, slack.user(by.email, tz=ZONE), "D0123")
    # 6 hours to the west the working day has not ended; where no zone is that far, 6 hours to the east, where it ended long ago
    west = int(ZONE.removeprefix("Etc/GMT")) + 6
    other = slack.user(elsewhere.email, tz=f"Etc/GMT{west if (waits := west <= 12) else west - 12:+d}")
    slack.user(gone.email, deleted=True)
    third = slack.user(done.email, tz=ZONE)
    done.patch("/api/me/working-hours", {"hoursPerDay": 0.5})
    start = datetime.now(UTC) - timedelta(hours=1)
    firm.logged(done, start=start.strftime("%Y-%m-%dT%H:%M:%SZ"), minutes=40)
    task = firm.task(by, title="Network")
    timer = by.post(f"/api/tasks/{task['id']}/start")

    own.start("relay", "work")
    eventually(lambda: slack.messages(member.id), why=own.log("work")[-1500:])
    for name in ("relay", "work"):
        own.kill(name)
    own.start("relay", "work", "work:slack")
    ended = "SELECT count(*) FROM messages WHERE actor = 'remind_of_hours' AND state IN ('done', 'dead')"
    later = """
        SELECT count(*) FROM messages WHERE actor = 'remind_of_hours' AND state = 'ready'
            AND available_at > now() + interval '10 minutes'
    """
    eventually(lambda: (own.value(ended), own.value(later)) == (4 - waits, waits), why=own.log("work")[-1500:])
    assert own.value("SELECT count(*) FROM messages WHERE actor = 'remind_of_hours'") == 4
    assert slack.messages(other) == [] and slack.messages(third) == []
    [message] = slack.messages(member.id)
    text = shown(message["blocks"])
    assert "of 8:00 hours today" in text and ZONE in text and "Your timer runs on Network, since" in text
    assert button(message["blocks"], "Another time…")["value"] == timer["id"]

    path = pressed(member, message["blocks"], "Log time…")
    assert "`/task log" in member.wait_for_answer(path)
    path = pressed(member, message["blocks"], "Turn off reminders")
    assert "Your reminders are off." in member.wait_for_answer(path)
    assert not slack.answers(path)[0].get("replace_original"), "the other buttons stay"
    again = pressed(member, message["blocks"], "Turn off reminders")
    assert "off already" in member.wait_for_answer(again)
    assert by.get("/api/me/working-hours")["reminders"] is False
    back = pressed(member, slack.answers(again)[0]["blocks"], "Turn on again")
    assert "Your reminders are on." in member.wait_for_answer(back)
    assert by.get("/api/me/working-hours")["reminders"] is True

    trigger = slack.trigger()
    stop = button(message["blocks"], "Stop timer")
    sent = member.press_request(stop["action_id"], stop["value"], "D0123", trigger)
    member.send(sent)
    assert "is stopped" in member.wait_for_answer(trigger["path"])
    member.send(sent)  # Slack repeats it
    next_task = firm.task(by)["id"]
    by.post(f"/api/tasks/{next_task}/start")
    assert "is stopped" in member.wait_for_answer(pressed(member, message["blocks"], "Stop timer"))
    assert running(by) == next_task, "a later timer is not affected"
