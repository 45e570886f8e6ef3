"""The people on call are told of outages of relays, workers and RabbitMQ, once, and when they are over."""

import asyncio
import time

import pytest

from ops.sandbox.slack.workspace import BOT_TOKEN
from schemas.diagnosis import outages
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import read
from schemas.messages import QUEUES
from schemas.outbox import heartbeats
from schemas.outbox.heartbeats import Report
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.outbox.rows import connected, over
from tests.support.installation import SECRET_KEY, new_database
from tests.support.slack_sandbox import running_slack_sandbox
from tests.support.smtp import MailServer, mail_server

OPS = "ops@example.com"


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def settings(url: str, server: MailServer) -> Settings:
    return Settings(database_url=url, secret_key=SECRET_KEY, ops_email=OPS, smtp_url=server.url)


async def beat(conn: Connection, kind: str, queues: tuple[str, ...] = (), problem: str | None = None) -> None:
    report = Report(problems={"RabbitMQ": problem} if problem else {})
    await heartbeats.beat(
        conn, process=f"here:{kind}", kind=kind, queues=list(queues), started=time.monotonic(), report=report
    )  # fmt: skip


def test_an_outage_is_told_once_and_when_it_is_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rounds(conn: Connection) -> None:
        with mail_server() as server:
            known = settings(url, server)

            async def told(*, lasts: bool = True) -> list[str]:
                """The subjects of the mails of three processes that look at the same time, twice."""
                monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0 if lasts else 60.0)
                before = len(server.mails)
                async with connected(url) as two, connected(url) as three:
                    for _ in range(2):
                        await asyncio.gather(*(outages.look(each, known) for each in (conn, two, three)))
                return sorted(str(mail.message["Subject"]) for mail in server.mails[before:])

            assert await told() == [], "nothing ever ran"
            await beat(conn, "relay")
            await beat(conn, "work", QUEUES)
            assert await told() == []
            await conn.execute("UPDATE heartbeats SET seen_at = seen_at - interval '20 seconds' WHERE kind = 'relay'")
            assert await told(lasts=False) == [], "it may be a restart"
            assert await told() == ["Stint: relay is down"]
            assert "./stint relay" in server.to(OPS)[0]
            assert await told() == []
            await beat(conn, "relay", problem="blocked: low on memory")
            assert await told(lasts=False) == []
            assert await told() == ["Stint: RabbitMQ is down", "Stint: relay is back"]
            assert "set_vm_memory_high_watermark" in server.to(OPS)[-1] + server.to(OPS)[-2]
            await beat(conn, "relay")
            await beat(conn, "work", ("timers",))
            # a worker of the other queues ran, and has ended
            await conn.execute(
                """
                INSERT INTO heartbeats (process, kind, queues, started_at, seen_at)
                VALUES ('here:2', 'work', '{mail}', now(), now() - interval '1 hour')
                """
            )
            assert await told() == ["Stint: RabbitMQ is back", "Stint: worker for mail is down"]
            assert await conn.values("SELECT what FROM outages") == ["worker for mail"]

    over(url, rounds)


def test_a_loss_that_others_make_up_for_is_told_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)

    async def rounds(conn: Connection) -> None:
        with mail_server() as server:

            async def told() -> set[str]:
                before = len(server.mails)
                for _ in range(2):
                    await outages.look(conn, settings(url, server))
                return {str(mail.message["Subject"]) for mail in server.mails[before:]}

            problems = {f"host of {name}": "unusable: b does not answer" for name in ("RabbitMQ", "Postgres")}
            for process in ("here:relay", "there:relay"):
                await heartbeats.beat(
                    conn, process=process, kind="relay", queues=[], started=0, report=Report(problems=problems)
                )
            await conn.execute("UPDATE heartbeats SET seen_at = now() - interval '20 seconds' WHERE process = 'there:relay'")
            names = ("a host of RabbitMQ", "a host of Postgres", "a process")
            assert await told() == {f"Stint: {name} is down" for name in names}
            assert any("Processes are gone from the host there: the relay there:relay." in text for text in server.to(OPS))
            assert await told() == set()
            await conn.execute("UPDATE heartbeats SET problems = '{}', ended_at = seen_at")
            await beat(conn, "relay")
            assert await told() == {f"Stint: {name} is back" for name in names}

    over(url, rounds)


def test_a_mail_about_an_outage_that_was_not_accepted_is_sent_later(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)

    async def rounds(conn: Connection) -> None:
        with mail_server() as server:
            server.answers["DATA"] = ["451 later"]
            await beat(conn, "relay", problem="unreachable: ConnectionRefusedError")
            for _ in range(3):
                await outages.look(conn, settings(url, server))
            assert server.mails == []
            await conn.execute("UPDATE outages SET try_at = now()")  # a minute later
            for _ in range(3):
                await outages.look(conn, settings(url, server))
            assert [str(mail.message["Subject"]) for mail in server.mails] == ["Stint: RabbitMQ is down"]

    over(url, rounds)


def test_a_channel_in_slack_is_told_in_the_words_of_the_doctor_as_they_are(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)

    async def rounds(conn: Connection) -> None:
        with running_slack_sandbox() as slack:
            known = Settings(
                database_url=url,
                secret_key=SECRET_KEY,
                slack_bot_token=BOT_TOKEN,
                slack_api_url=f"{slack.url}/api/",
                ops_slack_channel=slack.channel("ops"),
            )
            await beat(conn, "relay", problem="refused: ACCESS_REFUSED - user <stint>")
            for _ in range(2):
                await outages.look(conn, known)
            await beat(conn, "relay")
            for _ in range(3):
                await outages.look(conn, known)
            begun, ended = (message["blocks"][0]["text"] for message in slack.messages(known.ops_slack_channel))
            assert begun["type"] == "plain_text" and "user <stint>" in begun["text"] and "'.*' '.*' '.*'" in begun["text"]
            assert ended["text"] == "Stint: RabbitMQ is back."

    over(url, rounds)


def test_an_outage_that_ends_while_it_is_told_is_told_to_be_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)

    async def rounds(conn: Connection) -> None:
        with mail_server(seconds=1.0) as server:
            known = settings(url, server)
            await beat(conn, "relay", problem="unreachable: ConnectionRefusedError")
            telling = asyncio.create_task(outages.look(conn, known))
            async with connected(url) as other, asyncio.timeout(20):
                while server.connections == 0:  # noqa: ASYNC110 - it sets no event
                    await asyncio.sleep(0.01)
                await beat(other, "relay")
                await outages.look(other, known)
                await telling
                server.seconds = 0.0
                for _ in range(3):
                    await outages.look(conn, known)
            subjects = [str(mail.message["Subject"]) for mail in server.mails]
            assert subjects == ["Stint: RabbitMQ is down", "Stint: RabbitMQ is back"]

    over(url, rounds)


def test_a_mail_server_that_answers_too_slowly_is_given_up_before_another_process_tells(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outages.MAIL_SECONDS + outages.SLACK_SECONDS < outages.TRY_AGAIN_SECONDS
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)
    monkeypatch.setattr(outages, "MAIL_SECONDS", 0.2)

    async def rounds(conn: Connection) -> None:
        with mail_server(seconds=1.0) as server:
            await beat(conn, "relay", problem="unreachable: ConnectionRefusedError")
            for _ in range(2):
                await outages.look(conn, settings(url, server))
            assert await conn.value("SELECT is_told FROM outages") is False

    over(url, rounds)


def test_a_post_that_slack_does_not_take_leaves_the_mail_and_the_doctor_says_why(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "LASTING_SECONDS", 0.0)
    monkeypatch.setattr(outages, "SLACK_SECONDS", 0.5)

    async def rounds(conn: Connection) -> None:
        with mail_server() as mails, running_slack_sandbox() as slack:
            known = Settings(
                database_url=url,
                secret_key=SECRET_KEY,
                ops_email=OPS,
                smtp_url=mails.url,
                slack_bot_token=BOT_TOKEN,
                slack_api_url=f"{slack.url}/api/",
                ops_slack_channel=slack.channel("ops"),
            )
            gone = known.model_copy(update={"ops_slack_channel": "C0GONE"})

            async def told(settings: Settings) -> tuple[list[str], list[str], str]:
                """Of an outage that begins and ends: the mails, what the doctor says of Slack, and the log."""
                before = len(mails.mails)
                caplog.clear()
                for problem in ("unreachable: ConnectionRefusedError", None):
                    await beat(conn, "relay", problem=problem)
                    for _ in range(3):
                        await outages.look(conn, settings)
                found = [each.what for each in diagnose(await read(conn, settings)) if each.what.startswith("Slack ")]
                return [str(mail.message["Subject"]) for mail in mails.mails[before:]], found, caplog.text

            both = ["Stint: RabbitMQ is down", "Stint: RabbitMQ is back"]
            slack.configure(revoked=True)
            sent, [finding], _ = await told(known)
            assert sent == both and finding.startswith("Slack refuses calls since ")
            slack.configure(revoked=False)
            assert (await told(known))[:2] == (both, []), "a post that succeeds ends it"
            assert len(slack.messages(known.ops_slack_channel)) == 2
            slack.inject_fault("status", path="/api/", status=429, retryAfter=30)
            sent, found, log = await told(known)
            assert (sent, found) == (both, []) and "could not be sent: RetryAfter" in log
            slack.inject_fault("stall", path="/api/", seconds=2)
            sent, found, log = await told(known)
            assert (sent, found) == (both, []) and "could not be sent: SlackUnavailable" in log
            slack.clear_faults()
            sent, found, log = await told(gone)
            assert sent == both and "could not be sent: channel_not_found" in log
            assert found == ["Slack takes no posts about outages in the channel C0GONE: channel_not_found."]
            assert (await told(known))[:2] == (both, []), "another channel is set, and takes posts"
            assert await conn.value("SELECT count(*) FROM outages") == 0

    over(url, rounds)


def test_whatever_fails_while_outages_are_looked_for_is_logged_and_ends_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "EVERY_SECONDS", 0.01)
    looked = 0

    async def failing(_conn: Connection, _settings: Settings) -> None:
        nonlocal looked
        looked += 1
        raise KeyError("a fault of Stint's")

    monkeypatch.setattr(outages, "look", failing)

    async def watched() -> None:
        with mail_server() as server:
            task = asyncio.create_task(outages.watch(settings(url, server)))
            async with asyncio.timeout(20):
                while looked < 2 and not task.done():  # noqa: ASYNC110 - it sets no event
                    await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()

    asyncio.run(watched())
    assert "looking for outages failed: KeyError" in caplog.text
