"""App Home is kept current: what makes it be published again, how often, and that the last publish shows the latest state."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from actors.runtime.rescuer import prune
from ops.sandbox.slack.workspace import BOT_TOKEN
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.home import changes, homes
from schemas.slack.home.homes import Home
from tests.outbox.rows import connected, over
from tests.slack.at_home import AtHome
from tests.support import firm_rows
from tests.support.given import Given, Json, Person
from tests.support.installation import SECRET_KEY, Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox

WAITING = "SELECT body->>'slack_id' FROM messages WHERE actor = 'publish_home' AND state = 'ready' ORDER BY 1"
DONE = "UPDATE messages SET state = 'done', done_at = now() WHERE state IN ('ready', 'calling')"


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def known(url: str, **more: Any) -> Settings:
    return Settings(database_url=url, secret_key=SECRET_KEY, **{"slack_bot_token": "xoxb-1"} | more)


async def home_of(conn: Connection, slack_id: str, user_id: UUID | None, *, is_admin: bool = False) -> Home:
    """A Home that was opened and published."""
    await homes.open_home(conn, slack_id)
    home = await homes.lock(conn, slack_id)
    assert home is not None
    await homes.mark_read(conn, home, user_id=user_id, is_admin=is_admin)
    await conn.execute(DONE)
    return home


def test_each_change_of_what_a_home_shows_is_found_and_others_are_not(url: str) -> None:
    async def work(conn: Connection) -> None:
        admin, one, other = [await firm_rows.user(conn, role) for role in ("internal_admin", "internal_user", "internal_user")]
        rows = await firm_rows.firm(conn, by=one.id)
        others = await firm_rows.firm(conn, by=other.id, name="Globex")
        await home_of(conn, "UADMIN", admin.id, is_admin=True)
        await home_of(conn, "UONE", one.id)
        old = await firm_rows.bill(conn, rows)
        today = await firm_rows.bill(conn, rows, date="2999-01-01")
        ids = {"one": one.id, "other": other.id, "task": rows.task, "others": others.task, "old": old, "today": today,
               "customer": rows.customer, "pillar": rows.pillar, "admin": admin.id, "elsewhere": others.customer,
               "moved": others.pillar}  # fmt: skip
        everybody, mine, admins, nobody = ["UADMIN", "UONE"], ["UONE"], ["UADMIN"], list[str]()
        timer = """
            INSERT INTO timers (id, user_id, task_id, start_time)
            VALUES (gen_random_uuid(), %({})s, %({})s, date_trunc('second', now()))
        """
        for change, expected in (
            ("SELECT 1", nobody),
            (timer.format("one", "others"), mine),
            ("UPDATE timers SET notes = 'x' WHERE user_id = %(one)s", mine),
            ("UPDATE tasks SET title = 'of the timer' WHERE id = %(others)s", mine),
            ("DELETE FROM timers WHERE user_id = %(one)s", mine),
            ("UPDATE tasks SET title = 'of nobody here' WHERE id = %(others)s", nobody),
            (timer.format("other", "others"), nobody),
            ("DELETE FROM timers WHERE user_id = %(other)s", nobody),
            ("UPDATE tasks SET title = 'x' WHERE id = %(task)s", mine),
            ("UPDATE tasks SET status = 'done' WHERE id = %(task)s", mine),
            ("UPDATE tasks SET assignee_id = %(other)s WHERE id = %(task)s", mine),
            ("UPDATE tasks SET assignee_id = %(one)s WHERE id = %(task)s", mine),
            ("UPDATE tasks SET customer_id = %(elsewhere)s, pillar_id = %(moved)s WHERE id = %(task)s", mine),
            ("UPDATE tasks SET deleted_at = now() WHERE id = %(task)s", mine),
            ("INSERT INTO working_hours (user_id, seconds_a_day) VALUES (%(one)s, 3600)", mine),
            ("UPDATE working_hours SET seconds_a_day = 7200 WHERE user_id = %(one)s", mine),
            ("UPDATE time_bills SET version = version + 1 WHERE id = %(old)s", admins),
            ("UPDATE time_bills SET version = version + 1 WHERE id = %(today)s", nobody),
            ("UPDATE customers SET name = 'Acme 2' WHERE id = %(customer)s", admins),  # the task has moved
            ("UPDATE customers SET name = 'Globex 2' WHERE id = %(elsewhere)s", everybody),
            ("UPDATE pillars SET name = 'Servers' WHERE id = %(pillar)s", admins),
            ("UPDATE users SET name = 'Joe' WHERE id = %(one)s", everybody),
            ("UPDATE users SET name = 'Jim' WHERE id = %(other)s", admins),
        ):
            since = await changes.publish_changed(conn, None, known(url))
            await conn.execute("UPDATE slack_homes SET is_stale = false")
            await conn.execute(DONE)
            await conn.execute(change, ids if "%(" in change else None)
            assert since is not None and await changes.publish_changed(conn, since, known(url)) is not None
            assert await conn.values(WAITING) == expected, change
        since = await changes.publish_changed(conn, None, known(url))
        await conn.execute(DONE)
        await firm_rows.entry(conn, rows, None)
        await changes.publish_changed(conn, since, known(url))
        assert await conn.values(WAITING) == mine, "an entry"

    over(url, work)


def test_a_look_finds_what_commits_late_and_after_a_start_all_homes(url: str) -> None:
    async def work(conn: Connection) -> None:
        user = await firm_rows.user(conn)
        rows = await firm_rows.firm(conn, by=user.id)
        await home_of(conn, "U1", user.id)
        await home_of(conn, "UGONE", user.id)
        await home_of(conn, "UREFUSED", None)
        await conn.execute(
            "UPDATE slack_homes SET opened_at = now() - interval '31 days', is_stale = false WHERE slack_id = 'UGONE'"
        )
        async with connected(url) as slow, slow.transaction():
            await slow.execute("UPDATE tasks SET title = 'late' WHERE id = %s", (rows.task,))
            since = await changes.publish_changed(conn, None, known(url))
            assert await conn.values(WAITING) == ["U1"], "all that are kept"
            await conn.execute(DONE)
            await firm_rows.firm(conn)
            await conn.execute(DONE)
            since = await changes.publish_changed(conn, since, known(url))
            await conn.execute(DONE)
        since = await changes.publish_changed(conn, since, known(url))
        assert await conn.values(WAITING) == ["U1"] and since is not None
        await conn.execute(DONE)
        assert await changes.publish_changed(conn, since, known(url)) is not None
        assert await conn.values(WAITING) == []
        yesterday = since.at - timedelta(days=1)
        for other in (replace(since, epoch=(since.epoch or 0) + 1), replace(since, at=yesterday)):  # another epoch, another day
            await changes.publish_changed(conn, other, known(url))
            assert await conn.values(WAITING) == ["U1"]
            await conn.execute(DONE)
        assert await changes.publish_changed(conn, since, known(url, slack_bot_token=None)) is None

    over(url, work)


def test_the_home_of_somebody_who_loses_access_is_replaced_however_old_it_is(url: str) -> None:
    async def work(conn: Connection) -> None:
        for number, change in enumerate(("revoked_at = now()", "role = 'customer_user', customer_id = gen_random_uuid()")):
            user, slack_id = await firm_rows.user(conn), f"U{number}"
            await home_of(conn, slack_id, user.id)
            await conn.execute("UPDATE slack_homes SET is_stale = false, opened_at = now() - interval '1 year'")
            since = await changes.publish_changed(conn, None, known(url))
            await conn.execute("UPDATE users SET name = 'Joan' WHERE id = %s", (user.id,))
            since = await changes.publish_changed(conn, since, known(url))
            assert await conn.values(WAITING) == [], "an old Home is not kept current"
            await prune(conn, days=30)

            await conn.execute(f"UPDATE users SET {change} WHERE id = %s", (user.id,))
            since = await changes.publish_changed(conn, since, known(url))
            assert await conn.values(WAITING) == [slack_id], change
            home = await homes.lock(conn, slack_id)
            assert home is not None
            await homes.mark_read(conn, home, user_id=None, is_admin=False)
            await conn.execute("UPDATE slack_homes SET is_stale = false")  # as after the second look
            await conn.execute(DONE)
            assert await changes.publish_changed(conn, since, known(url)) is not None
            assert await conn.values(WAITING) == []
            await prune(conn, days=30)
            assert await homes.lock(conn, slack_id) is None

    over(url, work)


def test_one_message_waits_and_a_change_during_a_publish_is_shown_by_the_next(url: str) -> None:
    async def work(conn: Connection) -> None:
        user = await firm_rows.user(conn)
        await home_of(conn, "U1", user.id)
        async with connected(url) as other:
            assert [await homes.request(conn, ["U1", "UNKNOWN"]) for _ in range(3)] == [1, 0, 0]
            [first] = await conn.values("SELECT id FROM messages WHERE state = 'ready'")
            await conn.execute("UPDATE messages SET state = 'sent', sent_at = now() WHERE id = %s", (first,))
            assert await homes.request(conn, ["U1"]) == 0
            async with other.transaction():  # the handler has locked the record, and reads
                home = await homes.lock(other, "U1")
                assert home is not None and not await homes.is_published_by_another(other, home, first)
                await homes.mark_running(other, home, first)
                change = asyncio.create_task(homes.request(conn, ["U1"]))
                await asyncio.sleep(0.05)
                assert not change.done()
                await other.execute(
                    """
                    UPDATE messages SET state = 'calling', lease_token = gen_random_uuid(), lease_until = now() + interval '1 h'
                    WHERE id = %s
                    """,
                    (first,),
                )
            assert await change == 1
            [second] = await conn.values("SELECT id FROM messages WHERE state = 'ready'")
            assert await homes.request(conn, ["U1"]) == 0
            async with conn.transaction():
                home = await homes.lock(conn, "U1")
                assert home is not None and home.content_hash is None
                assert await homes.is_published_by_another(conn, home, second)
            await conn.execute("UPDATE messages SET state = 'dead', died_at = now() WHERE id = %s", (second,))
            assert await homes.request(conn, ["U1"]) == 1, "a dead message does not stop the next one"
            await conn.execute("UPDATE messages SET state = 'dead', died_at = now() WHERE state = 'ready'")
            since = await changes.publish_changed(conn, None, known(url))
            await conn.execute("UPDATE messages SET state = 'dead', died_at = now() WHERE state = 'ready'")
            await changes.publish_changed(conn, since, known(url))
            assert await conn.values(WAITING) == [], "a Home that cannot be published is not tried without end"

    over(url, work)


def test_a_home_is_read_once_more_after_it_was_found_whose_it_is(url: str) -> None:
    async def work(conn: Connection) -> None:
        user = await firm_rows.user(conn)
        await homes.tell(conn, "U1", "a press in a Home whose record was deleted")
        await conn.execute(DONE)
        since = await changes.publish_changed(conn, None, known(url))
        for expected in (["U1"], []):
            home = await homes.lock(conn, "U1")
            assert home is not None and home.note
            await homes.mark_read(conn, home, user_id=user.id, is_admin=False)
            await changes.publish_changed(conn, since, known(url))
            assert await conn.values(WAITING) == expected
            await conn.execute(DONE)

    over(url, work)


def test_many_changes_at_once_are_few_publishes_and_the_last_one_is_shown(
    home: AtHome, person: Person, given: Given, customer: Json, stint: Installation
) -> None:
    task = given.task(person, customer, title="First")
    home.opened()
    before = home.published
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: person.put(f"/api/tasks/{task['id']}", {"title": f"Title {n}"}), range(40)))
    person.put(f"/api/tasks/{task['id']}", {"title": "The last title"})
    person.post(f"/api/tasks/{task['id']}/start")
    home.shows("*The last title*", "[Stop]")
    assert home.published - before <= 12, "about one in two seconds"
    assert home.view["replaces"], "it names the view that it replaces, so that Slack refuses an older publish"
    unfinished = "SELECT count(*) FROM messages WHERE actor = 'publish_home' AND body->>'slack_id' = %s AND state <> 'done'"
    eventually(lambda: stint.value(unfinished, home.member.id) == 0)
    published = home.published
    person.put(f"/api/tasks/{task['id']}", {"description": "It is not shown."})
    checked = "SELECT count(*) FROM messages WHERE actor = 'publish_home' AND body->>'slack_id' = %s AND state = 'done'"
    count = stint.value(checked, home.member.id)
    eventually(lambda: stint.value(checked, home.member.id) > count)
    assert home.published == published, "a Home that shows the same is not published"

    # also if the person's profile has to be read again
    count, asked = stint.value(checked, home.member.id), "SELECT fetched_at FROM slack_users WHERE slack_id = %s"
    old = stint.value(
        "UPDATE slack_users SET fetched_at = now() - interval '2 h' WHERE slack_id = %s RETURNING fetched_at", home.member.id
    )
    person.put(f"/api/tasks/{task['id']}", {"description": "Nor is this."})
    eventually(lambda: stint.value(checked, home.member.id) > count)
    assert stint.value(asked, home.member.id) > old and home.published == published


def test_a_worker_that_is_killed_while_slack_answers_leaves_the_latest_state(own: Installation, slack: SlackSandbox) -> None:
    own.environment |= slack.environment
    given = Given(own.start("api", "relay", "work").wait_until_ready())
    person = given.person()
    task = given.task(person, title="Before")
    home = AtHome(Member(slack, own, slack.user(person.email), "D1"))
    home.opened()
    slack.inject_fault("late", path="views.publish", seconds=2, count=1)  # done after the worker's end
    person.put(f"/api/tasks/{task['id']}", {"title": "Old"})
    eventually(lambda: own.value("SELECT count(*) FROM messages WHERE actor = 'publish_home' AND state = 'calling'") == 1)
    own.kill("work")
    person.put(f"/api/tasks/{task['id']}", {"title": "Latest"})
    own.start("work")
    own.rows("UPDATE messages SET lease_until = now() WHERE state = 'calling' RETURNING id")
    eventually(lambda: any(call["fault"] == "late" for call in slack.calls("views.publish")))
    home.shows("Latest", without="Old")
    settled = "SELECT count(*) FROM messages WHERE actor = 'publish_home' AND state <> 'done'"
    eventually(lambda: own.value(settled) == 0, why=own.log("work")[-1500:])
    assert "Latest" in home.look()
    given.close()


def test_a_publish_whose_answer_is_lost_and_one_of_a_frozen_worker_do_not_hide_the_latest_state(
    home: AtHome, person: Person, given: Given, customer: Json, slack: SlackSandbox, stint: Installation
) -> None:
    given.task(person, customer, title="Backups")
    home.opened()
    before = dict(home.view)
    slack.inject_fault("drop_after", path="views.publish", count=1)
    home.press("Start")
    home.shows("*Backups*", "[Stop]")
    known_hash = "SELECT view_hash FROM slack_homes WHERE slack_id = %s"
    eventually(lambda: home.look() and stint.value(known_hash, home.member.id) == home.view["hash"])
    # the request of a worker that was frozen before all of this: Slack refuses it
    old = {"user_id": home.member.id, "view": {"type": "home", "blocks": before["blocks"]}, "hash": before["hash"]}
    answer = httpx2.post(f"{slack.url}/api/views.publish", json=old, headers={"Authorization": f"Bearer {BOT_TOKEN}"})
    assert answer.json() == {"ok": False, "error": "hash_conflict"}
    assert "*Backups*" in home.look()
