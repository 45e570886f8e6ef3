"""What is recorded of access to Xero: suspected, lost, found again; each function alone, in a database without workers."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.messages import QueueBills
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import backlog, bill_sync, connection, tokens
from schemas.xero.access import check, loss, status
from schemas.xero.access.check import AccessCheck
from schemas.xero.access.problems import AccessProblem
from schemas.xero.bill_sync import LockedBill
from schemas.xero.client_errors import (
    DoesNotExist,
    NotSent,
    Offline,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthorized,
    XeroError,
)
from schemas.xero.oauth import Organisation, Tokens
from schemas.xero.planning.steps import Wait
from tests.outbox.rows import connected, message, over, states
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database

SETTINGS = Settings(
    database_url="", secret_key=SECRET_KEY, xero_client_id="app", xero_client_secret="secret", app_url="https://stint.example"
)
REFUSED = Unauthorized("no", status=403)
EXPIRED = Unauthorized("no", status=401)
NO_SCOPES = Unauthorized("no", status=401, problem=AccessProblem.lost_scopes)


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def connect(conn: Connection, access: str = "access") -> None:
    async with conn.transaction():
        by = await firm_rows.user(conn)
        organisation = Organisation("connection", "tenant", "The firm", "2026-03-01")
        await connection.connect(conn, Tokens(access, "refresh", 1800), organisation, by=by, settings=SETTINGS)


async def shown(conn: Connection) -> Any:
    return json.loads(await status.status(conn, SETTINGS))


async def failed(conn: Connection, error: XeroError, *, made_with: str = "access", failures: int = 1) -> bool:
    async with conn.transaction():
        return await check.after_failure(conn, error, SETTINGS, token=made_with, failures=failures)


async def answered(conn: Connection, answer: AccessProblem | XeroError | None) -> None:
    """The current check has this answer."""
    async with conn.transaction():
        message_id = await conn.value("SELECT access_check_id FROM xero_connection")
        planned = await check.plan(conn, message_id=message_id, settings=SETTINGS)
        assert isinstance(planned, AccessCheck)
        await check.record(conn, planned, answer, message_id=message_id, settings=SETTINGS)


async def is_suspected(conn: Connection) -> bool:
    found = await tokens.access(conn, SETTINGS)
    return found is not None and found.check_seconds is not None


async def mails(conn: Connection) -> list[str]:
    return await conn.values("SELECT body->>'subject' FROM messages WHERE actor = 'send_mail' ORDER BY created_at")


@pytest.mark.parametrize(
    ("error", "failures", "suspected"),
    [
        (REFUSED, 1, True), (EXPIRED, 1, True), (NO_SCOPES, 1, True), (Offline("offline"), 1, True),
        (OutcomeUnknown("500"), 5, False), (OutcomeUnknown("500"), 6, True), (NotSent("away"), 12, True),
        (XeroError("late"), 6, True), (XeroError("late"), 0, False),
        (Refused("no", status=400), 6, False), (DoesNotExist("no", status=404), 6, False),
        (RateLimited("no", seconds=1), 6, False),
    ],
)  # fmt: skip
def test_which_failures_have_access_checked(error: XeroError, failures: int, suspected: bool, url: str) -> None:
    async def work(conn: Connection) -> tuple[bool, bool]:
        await connect(conn)
        return await failed(conn, error, failures=failures), await is_suspected(conn)

    assert over(url, work) == (suspected, suspected)


def test_a_refusal_with_an_earlier_token_is_none_of_the_current_one(url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn, "new")
        assert await failed(conn, REFUSED, made_with="old")  # it is repeated with the new one, and no attempt counts
        assert not await is_suspected(conn)
        found = await tokens.access(conn, SETTINGS)
        assert found is not None and found.token == "new"
        assert await failed(conn, REFUSED, made_with="new") and await is_suspected(conn)

    over(url, work)


def test_connecting_again_ends_what_was_recorded_before(url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        await failed(conn, REFUSED)
        message_id = await conn.value("SELECT access_check_id FROM xero_connection")
        planned = await check.plan(conn, message_id=message_id, settings=SETTINGS)
        assert isinstance(planned, AccessCheck)
        await connect(conn, "new")
        await check.record(conn, planned, AccessProblem.unlinked, message_id=message_id, settings=SETTINGS)
        assert await check.plan(conn, message_id=message_id, settings=SETTINGS) is None
        assert (await shown(conn))["accessLost"] is None and not await is_suspected(conn) and await mails(conn) == []

    over(url, work)


@pytest.mark.parametrize(("error", "renews"), [(REFUSED, False), (EXPIRED, True), (NO_SCOPES, False)])
def test_a_refusal_after_access_was_found_has_another_reason(error: XeroError, renews: bool, url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        assert await failed(conn, error)
        await answered(conn, None)
        await conn.execute("UPDATE xero_connection SET expires_at = now() + interval '30 minutes'")  # the check renewed it
        assert not await failed(conn, error) and not await is_suspected(conn)
        found = await tokens.access(conn, SETTINGS)
        assert found is not None and (found.token is None) is renews
        await conn.execute("UPDATE xero_connection SET access_found_at = now() - interval '16 minutes'")
        assert await failed(conn, error)

    over(url, work)


def test_no_call_starts_while_access_is_being_checked(url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        rows = await firm_rows.firm(conn)
        await conn.execute("UPDATE customers SET xero_project_id = 'p'")
        await conn.execute("UPDATE pillars SET xero_task_id = 't'")
        bill_id = await firm_rows.bill(conn, rows, status="approved", xero_status="queued")
        await failed(conn, REFUSED)
        async with conn.transaction():
            locked = await bill_sync.lock_bill(conn, bill_id, SETTINGS)
            assert isinstance(locked, LockedBill)
            step = await bill_sync.plan_call(conn, locked, message_id=await message(conn), settings=SETTINGS)
        assert isinstance(step, Wait) and 2 <= step.seconds < 5

    over(url, work)


@pytest.mark.parametrize(("lost_for", "expected"), [(0, 60), (90, 90), (400, 400), (5000, 900)])
def test_stint_tries_again_after_as_long_as_access_was_lost(lost_for: int, expected: int, url: str) -> None:
    async def work(conn: Connection) -> float:
        await connect(conn)
        await failed(conn, REFUSED)
        await answered(conn, AccessProblem.offline)
        await conn.execute("UPDATE xero_connection SET needs_reconnect_at = now() - make_interval(secs => %s)", (lost_for,))
        await answered(conn, AccessProblem.offline)
        due, at = await conn.one(
            """
            SELECT extract(epoch FROM x.access_check_at - now())::float, m.available_at = x.access_check_at
            FROM xero_connection x JOIN messages m ON m.id = x.access_check_id
            WHERE m.actor = 'check_access' AND m.state = 'ready'
            """
        )
        assert at
        return float(due)

    assert over(url, work) == pytest.approx(expected, abs=3)


def test_each_admin_gets_one_mail_about_each_problem(url: str) -> None:
    async def work(conn: Connection) -> list[list[str]]:
        await connect(conn)
        await firm_rows.user(conn, "internal_user")
        await failed(conn, REFUSED)
        found = []
        for answer in (AccessProblem.offline, OutcomeUnknown("500"), AccessProblem.offline, AccessProblem.unlinked):
            await answered(conn, answer)
            found.append(await mails(conn))
        link = await conn.values("SELECT DISTINCT body->'link'->>'url' FROM messages WHERE actor = 'send_mail'")
        assert link == ["https://stint.example/xero"]
        return found

    offline = "Xero gives no access to The firm"
    assert over(url, work) == [[offline]] * 3 + [[offline, "Xero has to be connected again: The firm"]]


@pytest.mark.parametrize(("answer", "kind"), [(OutcomeUnknown("500"), "unavailable"), (EXPIRED, "forbidden")])
def test_a_check_without_an_answer_is_repeated_for_a_minute_before_access_counts_as_lost(
    answer: XeroError, kind: str, url: str
) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        await failed(conn, OutcomeUnknown("500"), failures=6)
        await answered(conn, answer)
        assert await is_suspected(conn) and (await shown(conn))["accessLost"] is None
        await conn.execute("UPDATE xero_connection SET access_suspected_at = now() - interval '61 seconds'")
        await answered(conn, RateLimited("no", seconds=1, limit="minute"))
        assert await is_suspected(conn)  # an answer, though none about access
        await conn.execute("UPDATE xero_tenants SET paused_until = now()")
        await answered(conn, answer)
        assert (await shown(conn))["accessLost"]["kind"] == kind

    over(url, work)


def test_an_app_that_xero_refuses_is_checked_again_and_a_revoked_consent_is_not(url: str) -> None:
    async def work(conn: Connection) -> list[tuple[bool, bool]]:
        found = []
        for problem in (AccessProblem.app_refused, AccessProblem.revoked):
            await connect(conn)
            await loss.mark_lost(conn, problem, SETTINGS)
            about = await shown(conn)
            found.append((about["needsReconnect"], about["accessLost"]["nextCheckAt"] is not None))
            await loss.ensure_checked(conn)
        return found

    assert over(url, work) == [(False, True), (True, False)]


@pytest.mark.parametrize("state", ["done", "dead", "discarded", "gone"])
def test_a_check_that_will_not_run_is_replaced(state: str, url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        await failed(conn, REFUSED)
        first = await conn.value("SELECT access_check_id FROM xero_connection")
        await loss.ensure_checked(conn)
        assert await conn.value("SELECT access_check_id FROM xero_connection") == first
        done = "now()" if state == "done" else "NULL"
        if state == "gone":
            await conn.execute("DELETE FROM messages WHERE id = %s", (first,))
        else:
            await conn.execute(f"UPDATE messages SET state = %s, done_at = {done} WHERE id = %s", (state, first))
        await loss.ensure_checked(conn)
        await loss.ensure_checked(conn)
        second = await conn.value("SELECT access_check_id FROM xero_connection")
        assert second != first and await states(conn, second) == ["ready"]
        assert await conn.value("SELECT count(*) FROM messages WHERE actor = 'check_access' AND state = 'ready'") == 1

    over(url, work)


def test_a_bill_that_finds_access_lost_is_seen_by_what_sends_it_later(url: str) -> None:
    async def work(conn: Connection) -> None:
        await connect(conn)
        bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status="queued")
        await loss.mark_lost(conn, AccessProblem.offline, SETTINGS)
        async with connected(url) as other, conn.transaction():
            locked = await bill_sync.lock_bill(conn, bill_id, SETTINGS)
            assert locked is not None and locked.access is None and "offline" in (locked.no_access or "")
            with pytest.raises(Exception, match="lock timeout"):
                await answered(other, None)

    over(url, work)


def test_found_access_enqueues_the_messages_for_what_waited(url: str) -> None:
    async def work(conn: Connection) -> list[list[str]]:
        await connect(conn)
        queued = "SELECT body->>'because' FROM messages WHERE actor = 'queue_bills' ORDER BY 1"
        found = [await conn.values(queued)]
        for answer in (None, AccessProblem.offline, None):  # a refusal of one project; lost; found again
            await conn.execute("DELETE FROM messages")
            await conn.execute("UPDATE xero_connection SET access_found_at = NULL")
            await failed(conn, REFUSED)
            await answered(conn, answer)
            found.append(await conn.values(queued))
        return found

    assert over(url, work) == [["access", "connected", "mapped"], [], [], ["access", "connected"]]


async def dead_bill(conn: Connection, error_class: str, xero_status: str = "failed") -> UUID:
    """A bill whose message died of such an error."""
    bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status=xero_status)
    body = f"""'{{"bill_id": "{bill_id}"}}'"""
    await conn.execute(
        "INSERT INTO failure_groups (fingerprint, actor, error_class, frame) VALUES (%s, 'sync_bill', %s, '')"
        " ON CONFLICT DO NOTHING",
        (error_class, error_class),
    )
    await message(conn, "dead", actor="'sync_bill'", queue="'xero'", body=body, fingerprint=f"'{error_class}'", died_at="now()")
    return bill_id


def test_bills_that_failed_without_access_are_sent_again_and_no_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "schemas.xero.client_errors"
    monkeypatch.setattr(backlog, "CHUNK_SIZE", 2)

    async def work(conn: Connection) -> None:
        without_access = [
            await dead_bill(conn, f"{module}.{name}")
            for name in ("Unauthorized", "Offline", "OutcomeUnknown", "NotSent", "XeroError")
        ]
        others = [
            await dead_bill(conn, "schemas.errors.NonRetryable"),
            await dead_bill(conn, "LeaseExpired"),
            await dead_bill(conn, f"{module}.Unauthorized", "synced"),
        ]
        async with conn.transaction():
            await loss.mark_found(conn)
            assert await conn.value("SELECT count(*) FROM messages WHERE actor = 'queue_bills'") == 0  # it was not lost
            await connect(conn)
        queued = QueueBills(because="access")
        for _ in range(3):  # chunks
            async with conn.transaction():
                await backlog.queue_next_chunk(conn, queued, SETTINGS)
            body = await conn.value(
                "SELECT body FROM messages WHERE actor = 'queue_bills' ORDER BY body->>'after' DESC NULLS LAST"
            )
            queued = QueueBills.model_validate(body)
        found = dict(await conn.all("SELECT id, xero_status FROM time_bills"))
        assert [found[bill_id] for bill_id in without_access] == ["queued"] * 5
        assert [found[bill_id] for bill_id in others] == ["failed", "failed", "synced"]
        dead = await conn.values("SELECT (body->>'bill_id')::uuid FROM messages WHERE state = 'dead'")
        assert set(dead) == set(others)

    over(url, work)


def test_the_status_counts_the_bills_of_each_status(url: str) -> None:
    async def work(conn: Connection) -> None:
        count_of = {
            "none": 3,
            "queued": 2,
            "synced": 4,
            "failed": 1,
            "not_connected": 2,
            "not_mapped": 1,
            "withdrawing": 2,
            "differs": 3,
        }
        rows = await firm_rows.firm(conn)
        for name, count in count_of.items():
            for _ in range(count):
                synced_at = "2026-03-04" if name in ("synced", "withdrawing", "failed") else None
                await firm_rows.bill(conn, rows, status="approved", xero_status=name, xero_synced_at=synced_at)
        await firm_rows.bill(conn, rows)
        await firm_rows.bill(conn, await firm_rows.firm(conn), status="rejected")
        about = await shown(conn)
        expected = count_of | {"none": 5}
        assert about["bills"] == {
            {"not_connected": "notConnected", "not_mapped": "notMapped"}.get(name, name): count
            for name, count in expected.items()
        }
        assert (about["queued"], about["failed"]) == (4, 1)
        assert (about["connected"], about["tenantId"], about["callsUsed"], about["callsLeft"]) == (False, None, 0, 5000)

    over(url, work)


def test_the_status_says_until_when_no_call_is_made_and_because_of_which_limit(url: str) -> None:
    async def work(conn: Connection) -> list[tuple[Any, Any]]:
        await connect(conn)
        settings = SETTINGS.model_copy(update={"xero_calls_per_day": 2})
        found = []
        for statement in (
            "SELECT 1",
            "UPDATE xero_tenants SET paused_until = now() + interval '1 minute', pause_reason = 'concurrent'",
            "INSERT INTO xero_calls (tenant_id, finished, succeeded, ends_at)"
            " SELECT 'tenant', true, true, now() - make_interval(hours => n) FROM generate_series(1, 2) n",
            "UPDATE xero_tenants SET paused_until = now() - interval '1 minute'",
            "DELETE FROM xero_calls",
        ):
            await conn.execute(statement)
            about = json.loads(await status.status(conn, settings))
            found.append((about["pausedBecause"], about["pausedUntil"] is not None))
        return found

    assert over(url, work) == [(None, False), ("concurrent", True), ("day", True), ("day", True), (None, False)]


def test_calls_of_the_last_day_are_counted(url: str) -> None:
    async def work(conn: Connection) -> Any:
        await connect(conn)
        await conn.execute(
            """
            INSERT INTO xero_calls (tenant_id, finished, succeeded, ends_at) VALUES
                ('tenant', true, false, now()), ('tenant', true, true, now() - interval '23 hours'),
                ('tenant', true, true, now() - interval '25 hours'), ('another', true, true, now())
            """
        )
        about = await shown(conn)
        age = await conn.value("SELECT now() - %s::timestamptz", (about["lastSuccess"],))
        return about["callsUsed"], about["callsLeft"], timedelta(hours=22) < age < timedelta(hours=24)

    assert over(url, work) == (2, 4998, True)
