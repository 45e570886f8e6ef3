"""Actions on dead letters and the steps of a replay, each alone: no relay and no worker runs meanwhile."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from schemas.errors import Conflict, Invalid
from schemas.masking import MASK, Redactor
from schemas.messages import Message, MoveEntries
from schemas.outbox import outbox
from schemas.outbox.dead_letters import (
    actions,
    details,
    edits,
    groups,
    replay_steps,
    replays,
    selecting,
    unrecognized_messages,
)
from schemas.outbox.dead_letters.actions import Action
from schemas.outbox.dead_letters.edits import Edit
from schemas.outbox.dead_letters.replays import NewReplay, Replay
from schemas.outbox.dead_letters.selecting import DeadLetterFilter, Select
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, message, over, states
from tests.outbox.test_alert_groups import settings
from tests.support.installation import new_database

EVERY_STATE = ("ready", "sent", "calling", "done", "dead", "discarded")


async def anything(conn: Connection, message: Message, before: dict[str, Any]) -> None:
    """Accepts every edited body."""


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def one_of_each(conn: Connection) -> list[UUID]:
    return [await message(conn, state) for state in EVERY_STATE]


async def replay_of(conn: Connection, **more: Any) -> Replay:
    body = {"select": {"all": True}, "reason": "fixed", "ratePerSecond": None, **more}  # steps follow without pause
    return await replays.start_replay(conn, NewReplay.model_validate(body), who="ann")


async def settle(conn: Connection, *, dead: bool = False) -> None:
    """What the workers do with all messages that were sent."""
    if dead:
        await conn.execute("UPDATE messages SET state = 'dead' WHERE state = 'ready'")
    else:
        await conn.execute("UPDATE messages SET state = 'done', done_at = now() WHERE state = 'ready'")


def test_only_dead_messages_are_replayed_and_each_gets_new_attempts(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[str], tuple[Any, ...], int]:
        ids = await one_of_each(conn)
        await conn.execute(
            "UPDATE messages SET attempts = 5, crashes = 2, started_delivery = 1, error = 'no' WHERE state = 'dead'"
        )
        replayed = await actions.replay(conn, ids, who="ann", reason="fixed")
        assert replayed == {ids[4]}
        row = await conn.one(
            "SELECT attempts, max_attempts, crashes, started_delivery, error, replays FROM messages WHERE id = %s", (ids[4],)
        )
        return await states(conn, *ids), row, await conn.value("SELECT count(*) FROM message_events")

    assert over(url, check) == (["ready", "sent", "calling", "done", "ready", "discarded"], (5, 10, 0, None, None, 1), 1)


def test_discarding_and_restoring_change_nothing_but_dead_and_discarded_messages(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        ids = await one_of_each(conn)
        action = Action(select=Select(ids=ids), reason="nobody needs it")
        first = (await actions.discard(conn, action, who="ann")).count
        discarded = await states(conn, *ids)
        second = (await actions.restore(conn, action, who="ann")).count
        return [first, discarded, second, await states(conn, *ids)]

    untouched = list(EVERY_STATE[:4])
    assert over(url, check) == [1, [*untouched, "discarded", "discarded"], 2, [*untouched, "dead", "dead"]]


def test_a_message_that_was_replayed_meanwhile_is_not_discarded(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, list[str]]:
        dead = await message(conn, "dead")
        selected = await actions._selected(conn, Select(all=True), "dead")
        async with connected(url) as other:
            await actions.replay(other, [dead], who="jo", reason="fixed")
        count = await actions._change_state(conn, selected, "discard", "dead", "discarded", who="ann", reason="no")
        return count, await states(conn, dead)

    assert over(url, check) == (0, ["ready"])


@pytest.mark.parametrize("state", [state for state in EVERY_STATE if state != "dead"])
def test_only_a_dead_message_can_be_edited(state: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        message_id = await message(conn, state)
        corrected = Edit(body={"bill_ids": [str(message_id)]}, reason="a typo")
        with pytest.raises(Conflict, match="only a dead one"):
            await edits.edit(conn, message_id, corrected, Redactor(settings(url)), check=anything, who="ann")

    over(url, check)


def test_a_selection_needs_exactly_one_field() -> None:
    for select in (Select(), Select(all=True, group="g"), Select(ids=[UUID(int=1)], filter=DeadLetterFilter())):
        with pytest.raises(Invalid):
            selecting.selection_sql(select)


def test_a_filter_selects_only_what_meets_all_of_it(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        await message(conn, "dead", died_at="'2026-03-01T00:00:00Z'", error="'100%% wrong'")
        await message(conn, "dead", died_at="'2026-03-02T00:00:00Z'", error="'1000 wrong'", actor="'move_entries'")
        filters: list[dict[str, Any]] = [
            {}, {"actor": "move_entries"}, {"actor": "move_entries", "queue": "xero"}, {"q": "100%"}, {"q": "RONG"},
            {"since": "2026-03-02T00:00:00Z"}, {"until": "2026-03-02T00:00:00Z"}, {"fingerprint": "other"},
        ]  # fmt: skip
        selects = [Select(filter=DeadLetterFilter.model_validate(given)) for given in filters]
        return [len(await actions._selected(conn, select, "dead")) for select in selects]

    assert over(url, check) == [2, 1, 0, 1, 2, 1, 1, 0]


def test_a_replay_is_of_the_messages_that_were_dead_when_it_was_started(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, list[str], list[str], int]:
        ids = await one_of_each(conn)
        replay = await replay_of(conn)
        late = await message(conn, "dead")
        assert await replay_steps.advance(conn)
        new = (await replays.get_replay(conn, replay.id or UUID(int=0))).new_since
        return replay.selected, await states(conn, *ids), await states(conn, late), new

    assert over(url, check) == (1, ["ready", "sent", "calling", "done", "ready", "discarded"], ["dead"], 1)


def test_replays_are_listed_with_their_progress_those_that_run_first(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[UUID | None], list[UUID | None], replays.ReplayInList]:
        await message(conn, "dead")
        running = await replay_of(conn, ratePerSecond=0.001)
        ended = [await replay_of(conn) for _ in range(replays.LISTED)]
        for replay in ended:
            await replays.cancel(conn, replay.id or UUID(int=0), who="ann", reason=None)
        listed = (await replays.list_replays(conn)).items
        return [running.id, *(replay.id for replay in reversed(ended))], [replay.id for replay in listed], listed[0]

    expected, found, first = over(url, check)
    assert found == expected[: replays.LISTED]
    assert (first.state, first.selected, first.sent, first.running, first.rate_per_second) == ("running", 1, 0, 0, 0.001)


async def ended(conn: Connection, replay: Replay) -> tuple[str, int, int, int, int]:
    found = await replays.get_replay(conn, replay.id or UUID(int=0))
    return found.state, found.sent, found.succeeded, found.failed_again, found.skipped


def test_a_canary_goes_first_and_stops_the_replay_when_it_fails(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        for _ in range(5):
            await message(conn, "dead")
        replay, seen = await replay_of(conn, canary=2), []
        for _ in range(3):
            await replay_steps.advance(conn)  # the canary is sent once, and then waited for
        seen.append((await ended(conn, replay))[:2])
        await settle(conn, dead=True)
        for _ in range(3):
            await replay_steps.advance(conn)
        return [*seen, await ended(conn, replay), await conn.value("SELECT count(*) FROM messages WHERE state = 'dead'")]

    assert over(url, check) == [("running", 2), ("stopped", 2, 0, 2, 0), 5]


def test_after_a_canary_that_succeeded_the_rest_is_sent(url: str) -> None:
    async def check(conn: Connection) -> tuple[str, int, int, int, int]:
        for _ in range(5):
            await message(conn, "dead")
        replay = await replay_of(conn, canary=2)
        for _ in range(5):
            await replay_steps.advance(conn)
            await settle(conn)
        return await ended(conn, replay)

    assert over(url, check) == ("done", 5, 5, 0, 0)


@pytest.mark.parametrize("after", ["dead", "discarded"])
def test_a_message_that_died_again_has_failed_also_when_it_was_discarded_meanwhile(after: str, url: str) -> None:
    async def check(conn: Connection) -> tuple[str, int, int, int, int]:
        await message(conn, "dead")
        replay = await replay_of(conn)
        await replay_steps.advance(conn)
        await conn.execute("UPDATE messages SET state = %s", (after,))
        await replay_steps.advance(conn)
        return await ended(conn, replay)

    assert over(url, check) == ("done", 1, 0, 1, 0)


def test_what_another_replay_has_sent_is_skipped(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[str, int, int, int, int]]:
        await message(conn, "dead")
        both = [await replay_of(conn), await replay_of(conn)]
        for _ in range(3):
            await replay_steps.advance(conn)
        await settle(conn)
        await replay_steps.advance(conn)
        return [await ended(conn, replay) for replay in both]

    assert over(url, check) == [("done", 1, 1, 0, 0), ("done", 0, 0, 0, 1)]


def test_a_replay_that_another_relay_is_advancing_is_left_to_it(url: str) -> None:
    async def check(conn: Connection) -> tuple[str, int, int, int, int]:
        await message(conn, "dead")
        replay = await replay_of(conn)
        async with connected(url) as other, other.transaction():
            await other.execute("SELECT FROM replays FOR UPDATE")
            await replay_steps.advance(conn)
        return await ended(conn, replay)

    assert over(url, check) == ("running", 0, 0, 0, 0)


def test_a_step_sends_no_more_than_the_rate_allows(url: str) -> None:
    rate, burst = 20, 5

    async def check(conn: Connection) -> list[tuple[float, int, float]]:
        for _ in range(30):
            await message(conn, "dead")
        replay = await replay_of(conn, ratePerSecond=rate)
        steps = []
        for idle in (10, 0, 0.1):
            before, began = (await ended(conn, replay))[1], time.monotonic()
            await conn.execute(
                "UPDATE replay_messages SET sent_at = clock_timestamp() - make_interval(secs => %s) WHERE sent_at IS NOT NULL",
                (idle,),
            )
            await replay_steps.advance(conn)
            took = time.monotonic() - began
            steps.append((idle, (await ended(conn, replay))[1] - before, took))
        return steps

    for idle, sent, took in over(url, check):
        assert min(burst, int(rate * idle)) <= sent <= min(burst, int(rate * (idle + took))), (idle, sent, took)


def test_messages_of_a_replay_that_are_under_way_are_few_so_that_others_do_not_wait_for_them(url: str) -> None:
    most = replay_steps.MOST_UNDER_WAY

    async def check(conn: Connection) -> list[int]:
        for _ in range(3 * most):
            await message(conn, "dead")
        replay, sent = await replay_of(conn, ratePerSecond=None), []

        async def step(change: str) -> None:
            await conn.execute(change)
            await replay_steps.advance(conn)
            sent.append((await ended(conn, replay))[1])

        await step("SELECT 1")
        await step("UPDATE messages SET state = 'sent', sent_at = now() WHERE state = 'ready'")
        # what waits for its next attempt is not under way, and no handler either
        await step("UPDATE messages SET state = 'ready', available_at = now() + interval '1 hour' WHERE state = 'sent'")
        await step(
            "UPDATE messages SET state = 'done', done_at = now() WHERE id IN"
            " (SELECT id FROM messages WHERE state = 'ready' AND available_at <= now() LIMIT 5)"
        )
        return sent

    assert over(url, check) == [most, most, 2 * most, 2 * most + 5]


def test_without_another_rate_a_replay_sends_a_hundred_a_second() -> None:
    assert NewReplay.model_validate({"select": {"all": True}, "reason": "fixed"}).rate_per_second == 100


def test_an_edit_keeps_the_body_before_and_after(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        dead = await message(conn, "dead")
        before = await conn.value("SELECT body FROM messages WHERE id = %s", (dead,))
        after = {"bill_ids": [str(UUID(int=7))]}
        await edits.edit(conn, dead, Edit(body=after, reason="typo"), Redactor(settings(url)), check=anything, who="ann")
        await conn.execute("UPDATE messages SET state = 'dead'")
        await edits.edit(conn, dead, Edit(body=before, reason="undo"), Redactor(settings(url)), check=anything, who="jo")
        history = (await details.get_detail(conn, dead, Redactor(settings(url)), zone="UTC")).history
        shown = [(event.action, event.who, event.before, event.after) for event in history]
        return [shown, [("edit", "ann", before, after), ("replay", "ann", None, None), ("edit", "jo", after, before),
                        ("replay", "jo", None, None)]]  # fmt: skip

    shown, expected = over(url, check)
    assert shown == expected


BLANKS = [" ", "\t\n", "\u00a0", "\u200b", "\ufeff\u2060", "\u3164"]


@pytest.mark.parametrize("reason", BLANKS)
def test_a_reason_needs_a_character_that_can_be_seen(reason: str) -> None:
    for model, more in ((Action, {}), (NewReplay, {}), (Edit, {"body": {}})):
        with pytest.raises(ValidationError):
            model.model_validate({"select": {"all": True}, "reason": reason} if not more else {"reason": reason, **more})
    with pytest.raises(Invalid):
        actions.check_reason(reason)
    assert Action(select=Select(all=True), reason=f"x{reason}").reason == f"x{reason}"


def test_a_dry_run_of_discarding_and_restoring_changes_nothing(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        ids = [await message(conn, "dead"), await message(conn, "discarded"), await message(conn, "dead")]
        await unrecognized_messages.record_unrecognized(conn, queue="bills", reason="unknown", body=b"x")
        action = Action(select=Select(all=True), reason="why", dryRun=True)
        counts = [(await act(conn, action, who="ann")).count for act in (actions.discard, actions.restore)]
        left = "SELECT count(*) FROM message_events UNION ALL SELECT count(*) FROM unrecognized_message_events"
        return [*counts, await states(conn, *ids), await conn.values(left)]

    assert over(url, check) == [3, 1, ["dead", "discarded", "dead"], [0, 0]]


def test_unrecognized_messages_are_grouped_and_selected_by_their_group(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        for queue, reason, body in (("bills", "unknown id", b"a"), ("bills", "unknown id", b"b"), ("mail", "not JSON", b"c")):
            await unrecognized_messages.record_unrecognized(conn, queue=queue, reason=reason, body=body)
        found = (await groups.list_groups(conn, Redactor(settings(url)))).unrecognized_groups
        chosen = next(group for group in found if group.queue == "bills")
        example = await details.get_detail(conn, chosen.example, Redactor(settings(url)), zone="UTC")
        count = (await actions.discard(conn, Action(select=Select(group=chosen.fingerprint), reason="why"), who="ann")).count
        left = await groups.list_groups(conn, Redactor(settings(url)))
        return [[(group.queue, group.error, group.count) for group in found], example.fingerprint == chosen.fingerprint, count,
                [group.queue for group in left.unrecognized_groups], left.unrecognized]  # fmt: skip

    assert over(url, check) == [[("mail", "not JSON", 1), ("bills", "unknown id", 2)], True, 2, ["mail"], 1]


def test_only_a_running_replay_can_be_cancelled_and_then_it_sends_nothing(url: str) -> None:
    async def check(conn: Connection) -> list[str]:
        dead = await message(conn, "dead")
        replay = await replay_of(conn)
        assert replay.id is not None
        await replays.cancel(conn, replay.id, who="jo", reason="the wrong group")
        await replay_steps.advance(conn)
        with pytest.raises(Conflict):
            await replays.cancel(conn, replay.id, who="ann", reason="also")
        found = await replays.get_replay(conn, replay.id)
        return [*await states(conn, dead), found.state, str(found.cancelled_by), str(found.cancelled_because)]

    assert over(url, check) == ["dead", "cancelled", "jo", "the wrong group"]


def test_a_dry_run_sends_nothing(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, bool, list[str]]:
        dead = await message(conn, "dead")
        replay = await replay_of(conn, dryRun=True)
        return replay.selected, await replay_steps.advance(conn), await states(conn, dead)

    assert over(url, check) == (1, False, ["dead"])


def test_a_message_for_later_is_enqueued_for_then(url: str) -> None:
    async def check(conn: Connection) -> float:
        at = datetime.now(UTC) + timedelta(hours=1)
        message_id = await outbox.enqueue(conn, MoveEntries(task_id=UUID(int=1)), available_at=at)
        left = "SELECT extract(epoch FROM available_at - %s)::float FROM messages WHERE id = %s"
        return float(await conn.value(left, (at, message_id)))

    assert over(url, check) == 0


def test_an_edit_that_would_store_a_mask_is_refused(url: str) -> None:
    async def check(conn: Connection) -> str:
        body = """'{"to": "jo@example.com", "subject": "Hello", "paragraphs": ["password=planted"]}'"""
        dead = await message(conn, "dead", actor="'send_mail'", queue="'mail'", body=body)
        edited = {"to": "jo@example.com", "subject": f"Hello {MASK}", "paragraphs": [f"password={MASK}"]}
        with pytest.raises(Invalid):
            await edits.edit(conn, dead, Edit(body=edited, reason="a typo"), Redactor(settings(url)), check=anything, who="ann")
        corrected = Edit(body=edited | {"subject": "Hello"}, reason="a typo")
        await edits.edit(conn, dead, corrected, Redactor(settings(url)), check=anything, who="ann")
        return str(await conn.value("SELECT body->'paragraphs'->>0 FROM messages WHERE id = %s", (dead,)))

    assert over(url, check) == "password=planted"
