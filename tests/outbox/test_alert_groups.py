"""Which dead letters and unrecognized messages cause an alert, without processes: over SMTP, see test_alerts.py."""

import pytest

from schemas.outbox import alerts, failed_attempts, outbox
from schemas.outbox.dead_letters import unrecognized_messages
from schemas.outbox.failed_attempts import Failure
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.outbox.rows import message, over
from tests.support.installation import SECRET_KEY, new_database

SECRET = "xoxb-1234567890-planted"
KINDS = ("failure_groups", "unrecognized_groups")


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def settings(url: str) -> Settings:
    return Settings(
        database_url=url,
        amqp_url="amqp://127.0.0.1/",
        secret_key=SECRET_KEY,
        ops_email="ops@example.com",
    )


async def happens_again(conn: Connection, kind: str, error: str = "no") -> None:
    if kind == "unrecognized_groups":
        await unrecognized_messages.record_unrecognized(conn, queue="bills", reason="unknown", body=b"x")
        return
    record = await outbox.lock(conn, await message(conn, "sent"))
    assert record is not None
    failure = Failure("ValueError", error, "", "here:1", final=True)
    assert await failed_attempts.record_failed_attempt(conn, record, failure, base_seconds=1) == "dead"


async def alerted(conn: Connection, url: str) -> int:
    """How many alerts are sent now."""
    before = await conn.value("SELECT count(*) FROM messages WHERE actor = 'send_mail'")
    logged = await alerts.send_alerts(conn, settings(url))
    sent = await conn.value("SELECT count(*) FROM messages WHERE actor = 'send_mail'") - before
    assert len(logged) == sent
    return int(sent)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_alerted_once_and_again_after_a_quiet_day(kind: str, url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        counted = []
        for quiet in ("0 seconds", "2 minutes", "23 hours 59 minutes", "24 hours 1 minute", "0 seconds", "3 days"):
            await conn.execute(f"UPDATE {kind} SET last_at = now() - %s::interval", (quiet,))
            await happens_again(conn, kind)
            counted.append(await alerted(conn, url))
        return counted

    assert over(url, check) == [1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_happens_every_hour_has_no_quiet_day(kind: str, url: str) -> None:
    async def check(conn: Connection) -> int:
        for _ in range(30):
            await happens_again(conn, kind)
            await alerted(conn, url)
            await conn.execute(f"UPDATE {kind} SET last_at = last_at - interval '1 hour'")
        return int(await conn.value("SELECT count(*) FROM messages WHERE actor = 'send_mail'"))

    assert over(url, check) == 1


def test_the_mail_of_an_alert_has_no_secret_in_it(url: str) -> None:
    async def check(conn: Connection) -> str:
        await happens_again(conn, "failure_groups", f"refused the token {SECRET}")
        assert await alerted(conn, url) == 1
        return str(await conn.value("SELECT body::text FROM messages WHERE actor = 'send_mail'"))

    body = over(url, check)
    assert "refused the token" in body and SECRET not in body


def test_the_mail_of_an_alert_leads_to_its_page_in_the_console(url: str) -> None:
    async def check(conn: Connection) -> tuple[dict[str, str], str, str]:
        for kind in KINDS:
            await happens_again(conn, kind)
            await alerted(conn, url)
        links = await conn.all("SELECT body->'link'->>'text', body->'link'->>'url' FROM messages WHERE actor = 'send_mail'")
        group = await conn.value("SELECT fingerprint FROM messages WHERE state = 'dead'")
        return dict(links), group, str(await conn.value("SELECT id FROM unrecognized_messages"))

    links, group, message_id = over(url, check)
    assert links == {
        "Look at the dead letters": f"http://127.0.0.1:8000/console/dead-letters/list?fingerprint={group}",
        "Look at the message": f"http://127.0.0.1:8000/console/dead-letters/{message_id}",
    }
