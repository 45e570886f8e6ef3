"""Which start of Postgres is a restore to an earlier moment. That one ends all sessions; a crash and a failover end none."""

import asyncio
import logging

import psycopg
import pytest

from schemas.diagnosis import status
from schemas.diagnosis.findings import diagnose
from schemas.identity import console_sessions, signing_keys
from schemas.identity.local_accounts import NewAccount, issue_token
from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY, new_database

LATER_TIMELINE = "timeline = timeline - 1"  # so that the present one is later
LONG_AGO = "recorded_at = recorded_at - interval '6 minutes'"
ANOTHER_TARGET = "recovery_target = '2026-11-23 17:30:00+00'"  # the server that starts was told none


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def _started(url: str, changed: str) -> tuple[bool, list[str]]:
    """Of a user who has signed in, and a Postgres that starts again without the marker: whether the sessions have ended, and
    what the doctor says of a restore."""
    settings = Settings.model_validate({"database_url": url, "secret_key": SECRET_KEY})
    async with await Connection.connect(url, autocommit=True) as conn:
        await sync_epochs.record_position(conn)
        await sync_epochs.record_position(conn)  # the first one begins the epoch
        async with conn.transaction():
            await issue_token(conn, NewAccount("jo@example.com", "Jo", "internal_admin"), settings)
        [user] = await conn.values("SELECT id FROM users")
        session = await console_sessions.start(conn, user)
        assert session is not None
        await conn.execute(f"UPDATE sync_epochs SET {changed}, written_by = pg_current_xact_id()")
        await conn.execute("TRUNCATE sync_epoch_marker")  # as Postgres does when it recovers
        await sync_epochs.record_position(conn)
        version, keys = await conn.one("SELECT access_version, (SELECT count(*) FROM signing_keys) FROM users")
        ended = {
            version >= 1_000,
            keys == 0,
            await console_sessions.find(conn, session) is None,
            await conn.value("SELECT sessions_after > clock_timestamp() FROM users") is True,
        }
        assert len(ended) == 1, (version, keys)
        if ended == {True}:  # and a new sign-in makes a new key
            async with conn.transaction():
                await issue_token(conn, NewAccount("jo@example.com", "Jo", "internal_admin"), settings)
            assert len(await signing_keys.public_keys(conn)) == 1
        said = [each.what for each in diagnose(await status.read(conn, settings))]
        return ended == {True}, [each for each in said if each.startswith("Postgres was restored")]


@pytest.mark.parametrize(
    ("changed", "is_restore"),
    [
        pytest.param(f"{LATER_TIMELINE}, {LONG_AGO}", True, id="to a moment that is long ago"),
        pytest.param(LATER_TIMELINE, False, id="a failover"),
        pytest.param(f"{LATER_TIMELINE}, {ANOTHER_TARGET}", False, id="a failover after a restore"),
        pytest.param(LONG_AGO, False, id="a crash, and a long outage"),
        pytest.param(f"timeline = NULL, {LONG_AGO}", False, id="an epoch of the version before"),
    ],
)
def test_a_restore_to_an_earlier_moment_ends_all_sessions_and_nothing_else_does(
    changed: str, is_restore: bool, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ended, said = asyncio.run(_started(url, changed))
    assert ended == is_restore
    assert len(said) == caplog.text.count("Postgres was restored to an earlier moment") == (1 if is_restore else 0)


def test_rows_of_a_dump_are_no_restore_to_a_moment(url: str) -> None:
    """`./stint restore` has ended the sessions, or was told to keep them."""

    async def restored() -> object:
        async with await Connection.connect(url, autocommit=True) as conn:
            await sync_epochs.record_position(conn)
            await sync_epochs.record_position(conn)
            await conn.execute(f"UPDATE sync_epochs SET {LATER_TIMELINE}, {LONG_AGO}, written_by = '3'")
            await conn.execute("TRUNCATE sync_epoch_marker")
            await sync_epochs.record_position(conn)
            return await sync_epochs.last_restore(conn)

    assert asyncio.run(restored()) is None


def test_a_restore_is_shown_for_a_day(url: str) -> None:
    asyncio.run(_started(url, f"{LATER_TIMELINE}, {LONG_AGO}"))
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE sync_epochs SET began_at = began_at - interval '25 hours'")

    async def last() -> object:
        async with await Connection.connect(url, autocommit=True) as conn:
            return await sync_epochs.last_restore(conn)

    assert asyncio.run(last()) is None
