"""What a channel may show, and who is a member, function by function: over rows, without Slack."""

import json
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from slack_sdk.signature import SignatureVerifier

from schemas.errors import Invalid
from schemas.messages import NudgeOwner, PostTaskCreated
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import members, posts, task_actions, task_form
from schemas.slack.client import Profile, has_valid_signature
from schemas.slack.commands import search
from schemas.slack.members import MappedChannel
from schemas.slack.nudges import get_timer
from schemas.slack.payloads import View
from schemas.slack.posts import Post
from tests.outbox.rows import over
from tests.slack.test_search import options
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

SETTINGS = Settings(database_url="", secret_key=SECRET_KEY, slack_bot_token="xoxb-1", slack_signing_secret="signing")
CREATOR = "U1"


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def values(found: bytes) -> list[UUID]:
    return [UUID(value) for value, _ in options(found)]


async def mapped(conn: Connection, rows: FirmRows, *, deleted: bool = False) -> str:
    """A channel that is mapped to the customer."""
    channel = f"C{uuid4().hex[:10].upper()}"
    await conn.execute(
        """
        INSERT INTO slack_channel_mappings (id, channel_id, channel_name, customer_id, created_from, deleted_at)
        VALUES (gen_random_uuid(), %s, 'c', %s, 'x', CASE WHEN %s THEN now() END)
        """,
        (channel, rows.customer, deleted),
    )
    return channel


async def confirmation(conn: Connection, rows: FirmRows, channel: str) -> Post | None:
    message = PostTaskCreated(task_id=rows.task, channel_id=channel, slack_user_id=CREATOR)
    return await posts.build_confirmation(conn, message, settings=SETTINGS)


def test_a_confirmation_goes_only_to_a_channel_that_is_mapped_to_its_customer_now(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        own, other = await firm_rows.firm(conn), await firm_rows.firm(conn)
        found = []
        for channel in (
            await mapped(conn, own), await mapped(conn, own, deleted=True), await mapped(conn, other), "C404",
        ):  # fmt: skip
            post = await confirmation(conn, own, channel)
            assert post is not None and post.channel_id in (channel, CREATOR)
            found.append(post.channel_id == channel)
        return found

    assert over(url, check) == [True, False, False, False]


def test_there_is_no_confirmation_of_a_deleted_task(url: str) -> None:
    async def check(conn: Connection) -> Post | None:
        rows = await firm_rows.firm(conn)
        await conn.execute("UPDATE tasks SET deleted_at = now() WHERE id = %s", (rows.task,))
        return await confirmation(conn, rows, await mapped(conn, rows))

    assert over(url, check) is None


async def caller(
    conn: Connection, email: str, channel: str | None = None, *, refusal: str | None = None, age: str = "0 s"
) -> Any:
    slack_id = f"U{uuid4().hex[:10].upper()}"
    await members.save_profile(conn, Profile(slack_id, email, refusal))
    await conn.execute("UPDATE slack_users SET fetched_at = fetched_at - %s::interval WHERE slack_id = %s", (age, slack_id))
    return await members.find_caller(conn, slack_id, channel, settings=SETTINGS)


def test_a_member_is_an_internal_user_with_that_address_and_nobody_else(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        rows = await firm_rows.firm(conn)
        internal = await firm_rows.user(conn, "internal_user")
        customers = await firm_rows.user(conn, "customer_user", customer_id=rows.customer)
        removed = await firm_rows.user(conn, "internal_user", revoked_at="2026-03-01")
        invited = await firm_rows.user(
            conn, "internal_user", account_elsewhere=True, invited_at="2026-03-01", customer_id=rows.customer
        )
        both = await firm_rows.user(conn, "internal_user")
        await firm_rows.user(conn, "customer_user", email=both.email, customer_id=rows.customer)
        await firm_rows.user(conn, "internal_user", email="")  # an access token states no address
        emails = [internal.email.upper(), customers.email, removed.email, invited.email, both.email, "", "nobody@example.com"]
        return [(await caller(conn, email)).user is not None for email in emails]

    assert over(url, check) == [True, *[False] * 6]


def test_a_profile_of_a_bot_or_of_another_workspace_is_nobodys(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        email = (await firm_rows.user(conn, "internal_user")).email
        return [(await caller(conn, email, refusal=refusal)).user is None for refusal in ("bot", "deleted", "other_workspace")]

    assert over(url, check) == [True] * 3


def test_a_profile_is_fresh_for_an_hour_and_usable_for_a_day(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[bool, bool]]:
        email = (await firm_rows.user(conn, "internal_user")).email
        found = [await caller(conn, email, age=age) for age in ("59 minutes", "61 minutes", "23 hours", "25 hours")]
        return [(each.fresh, each.user is not None) for each in found]

    assert over(url, check) == [(True, True), (False, True), (False, True), (False, False)]


def test_a_channel_belongs_to_the_customer_of_its_present_mapping(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        rows, email = await firm_rows.firm(conn), (await firm_rows.user(conn)).email
        channels = [await mapped(conn, rows), await mapped(conn, rows, deleted=True)]
        return [(await caller(conn, email, channel)).only_customer == rows.customer for channel in channels]

    assert over(url, check) == [True, False]


def test_in_a_channel_every_function_is_limited_to_its_customer(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        by = await firm_rows.user(conn)
        own, other = await firm_rows.firm(conn, by=by.id, name="Own"), await firm_rows.firm(conn, by=by.id, name="Other")
        insert = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, '2026-03-02')"
        await conn.execute(insert, (by.id, other.task))
        here: dict[str, Any] = {"only_customer": own.customer}
        timer = await task_actions.get_running_timer(conn, by.id, **here)
        tasks, count = await task_actions.list_own(conn, by.id, settings=SETTINGS, **here)
        return [
            await task_actions.get_task(conn, other.task, settings=SETTINGS, **here) is None,
            [task.id for task in tasks] == [own.task] and count == 1,
            values(await search.suggest_tasks(conn, "", user_id=by.id, **here)) == [own.task],
            values(await search.suggest_customers(conn, "", user_id=by.id, **here)) == [own.customer],
            await task_actions.get_customer(conn, other.customer, **here) is None,
            timer is not None and timer.title is None,
            await task_actions.complete(conn, other.task, by=by, settings=SETTINGS, **here)
            == (task_actions.TASK_NOT_FOUND, False),
            await conn.value("SELECT status FROM tasks WHERE id = %s", (other.task,)) == "open",
        ]

    assert over(url, check) == [True] * 8


def test_pillars_are_suggested_of_one_customer_and_only_active_ones(url: str) -> None:
    async def check(conn: Connection) -> bool:
        own, _ = await firm_rows.firm(conn), await firm_rows.firm(conn)
        for column, value in (("active", "false"), ("deleted_at", "now()")):
            await conn.execute(
                f"INSERT INTO pillars (id, customer_id, name, {column}) VALUES (gen_random_uuid(), %s, %s, {value})",
                (own.customer, f"not {column}"),
            )
        return values(await search.suggest_pillars(conn, "", customer_id=own.customer)) == [own.pillar]

    assert over(url, check) is True


def test_a_button_stops_only_the_timer_that_it_was_shown_for(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        by = await firm_rows.user(conn)
        rows = await firm_rows.firm(conn, by=by.id)
        timer = uuid4()
        await conn.execute(
            "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, %s, %s, '2026-03-02')", (by.id, timer, rows.task)
        )
        running = []
        for timer_id in (uuid4(), timer):
            async with conn.transaction():
                await task_actions.stop_timer(conn, by=by, only_customer=None, timer_id=timer_id)
            running.append(await conn.value("SELECT count(*) FROM timers WHERE user_id = %s", (by.id,)))
        return running

    assert over(url, check) == [1, 0]


def test_a_nudge_is_for_a_timer_that_still_runs_of_a_user_who_has_access(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        found = []
        for revoked_at in (None, "2026-03-01"):
            by = await firm_rows.user(conn, revoked_at=revoked_at)
            rows = await firm_rows.firm(conn, by=by.id)
            await conn.execute(
                "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, %s, %s, '2026-03-02')",
                (by.id, by.id, rows.task),
            )
            for timer_id in (by.id, uuid4()):
                found.append(await get_timer(conn, NudgeOwner(timer_id=timer_id, user_id=by.id), hours=8) is not None)
        return found

    assert over(url, check) == [True, False, False, False]


def form(customer: UUID, view_id: str = "V1") -> View:
    fields = {"title": {"title": {"value": "Servers"}}, "customer": {"customer": {"selected_option": {"value": str(customer)}}}}
    return View.model_validate({"id": view_id, "state": {"values": fields}})


def test_a_forms_task_has_an_id_of_its_own_workspace_and_form_and_the_channels_customer() -> None:
    customer, other = uuid4(), uuid4()
    channel = MappedChannel(customer, "Acme", True, None, None)
    first, again, elsewhere, another = (
        task_form.parse_form(form(customer, view), team_id=team, channel=channel).id
        for view, team in (("V1", "T1"), ("V1", "T1"), ("V1", "T2"), ("V2", "T1"))
    )
    assert first == again and len({first, elsewhere, another}) == 3
    with pytest.raises(Invalid):
        task_form.parse_form(form(other), team_id="T1", channel=channel)


def test_a_form_that_is_sent_again_makes_no_second_confirmation(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        by = await firm_rows.user(conn)
        rows = await firm_rows.firm(conn, by=by.id)
        view = form(rows.customer, "V7")
        for _ in range(3):
            async with conn.transaction():
                body = task_form.parse_form(view, team_id="T1", channel=None)
                await task_form.create(conn, view, body, by=by, slack_id="U1", channel_id="C1")
        confirmations = "SELECT count(*) FROM messages WHERE actor = 'post_task_created' AND created_by = %s"
        tasks = "SELECT count(*) FROM tasks WHERE created_by = %s AND source = 'slack'"
        return [await conn.value(confirmations, (by.id,)), await conn.value(tasks, (by.id,))]

    assert over(url, check) == [1, 1]


@pytest.mark.parametrize(
    ("timestamp", "signature"),
    [("", ""), ("0", f"v0={'0' * 64}"), ("now", f"v0={'0' * 64}"), ("1" * 12, "v0=x"), ("1" * 12, f"v0={'é' * 64}")],
)
def test_what_slack_has_not_signed_has_no_valid_signature(timestamp: str, signature: str) -> None:
    for body in (b"{}", json.dumps({"a": 1}).encode(), b"\xff"):
        assert not has_valid_signature(body, timestamp=timestamp, signature=signature, settings=SETTINGS)


@pytest.mark.parametrize(("age", "valid"), [(0, True), (290, True), (310, False), (-400, False)])
def test_a_signature_is_valid_for_five_minutes_and_for_its_own_body(age: int, valid: bool) -> None:
    timestamp = str(int(time.time()) - age)
    signature = SignatureVerifier("signing").generate_signature(timestamp=timestamp, body=b"a=1") or ""
    for body, expected in ((b"a=1", valid), (b"a=2", False)):
        assert has_valid_signature(body, timestamp=timestamp, signature=signature, settings=SETTINGS) is expected
