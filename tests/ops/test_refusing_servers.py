"""The doctor logs in to RabbitMQ and to the mail server, and so do relays and workers for their heartbeats: a server that
accepts connections and refuses the login is named, with what to do."""

import asyncio
import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiosmtplib
import pytest

from actors.runtime import server_watch
from actors.runtime.server_watch import BrokerState, MailState
from schemas.diagnosis import mail, rabbitmq
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import SendMail
from schemas.outbox.heartbeats import Process
from schemas.settings import Settings
from schemas.slack.client_errors import SlackUnavailable
from schemas.xero.client_errors import NotSent, Offline
from tests.outbox import probe
from tests.support.installation import Installation, eventually, free_port
from tests.support.smtp import mail_server


def test_a_wrong_password_and_a_missing_virtual_host_of_rabbitmq_are_named(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    of_another = parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl()
    assert asyncio.run(rabbitmq.probe(amqp_url)) == "ok"
    assert asyncio.run(rabbitmq.probe(None)) == "not set"
    state = asyncio.run(rabbitmq.probe(of_another))
    assert state.startswith("refuses the login: ACCESS_REFUSED") and "wrong" not in state
    finding = rabbitmq.of_rabbitmq(state)
    assert finding.what.startswith("RabbitMQ refuses the login") and "AMQP_URL" in finding.do
    assert "vhost" in asyncio.run(rabbitmq.probe(parts._replace(path="/nowhere").geturl()))
    away = asyncio.run(rabbitmq.probe("amqp://u:p@127.0.0.1:1/"))
    assert away == "does not answer: Connection refused at 127.0.0.1:1"
    two = asyncio.run(rabbitmq.probe("amqp://u:p@127.0.0.1:1/,amqp://u:p@localhost:2/"))
    assert two.startswith("does not answer: Connection refused at ") and two.count(":1") == two.count(":2") == 1, two
    assert rabbitmq.of_rabbitmq(away).do.startswith("start it")

    async def watched(url: str) -> str:
        state = BrokerState()
        task = asyncio.create_task(server_watch.watch_broker(url, state))
        async with asyncio.timeout(20):
            while state.problem is None:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)
        task.cancel()
        return str(state.problem)

    reported = asyncio.run(watched(of_another))
    assert reported.startswith("refused: ACCESS_REFUSED")
    # a page or a command that does not look at RabbitMQ itself has it from the relay
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    problems = {"RabbitMQ": reported}
    relay = Process(process="here:1", kind="relay", queues=[], started_at=at, seen_at=at, alive=True, problems=problems)
    [found, *_] = diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=[relay]))
    assert found.what == finding.what


def test_a_wrong_password_of_the_mail_server_is_named_and_no_mail_is_lost_by_it(own: Installation) -> None:
    with mail_server(refuses_passwords=True) as server:
        url = f"smtp://stint:wrong-one@127.0.0.1:{server.port}"
        state = asyncio.run(mail.probe(url))
        assert state == "refuses the login: 535 5.7.8 Authentication credentials invalid"
        assert mail.of_mail(state).do.startswith("set the user and the password in SMTP_URL")
        assert asyncio.run(mail.probe(server.url)) == "ok", "without a user nobody logs in"
        assert asyncio.run(mail.probe("smtp://127.0.0.1:1")) == "does not answer: Connection refused at 127.0.0.1:1"

        own.environment["SMTP_URL"] = url
        own.start("relay", "work:mail")
        with own.sql() as conn:
            [message] = probe.enqueue(conn, SendMail(to="jo@example.com", subject="Hello", paragraphs=("One",)))
        problem = "SELECT problems->>'mail' FROM heartbeats WHERE kind = 'work' AND problems ? 'mail'"
        eventually(lambda: own.rows(problem), seconds=40)
        assert own.value(problem).startswith("refused: 535")
        failed = "SELECT count(*) FROM message_attempts WHERE message_id = %s"
        with own.sql() as conn:
            eventually(lambda: conn.execute(failed, (message,)).fetchone() != (0,), seconds=40)
        assert own.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 0
        server.refuses_passwords = False
        server.next_to("jo@example.com")


def test_a_mail_server_that_refuses_each_mail_for_now_is_named_until_it_accepts_one(own: Installation) -> None:
    with mail_server(answers={"RCPT": ["451 4.3.1 Disk full"] * 100}) as server:
        assert asyncio.run(mail.probe(server.url)) == "ok", "it answers"
        own.environment["SMTP_URL"] = server.url
        own.start("relay", "work:mail")
        with own.sql() as conn:
            probe.enqueue(conn, SendMail(to="ann@example.com", subject="Hello", paragraphs=("One",)))
        problem = "SELECT problems->>'mail' FROM heartbeats WHERE kind = 'work' AND problems ? 'mail'"
        eventually(lambda: own.rows(problem), seconds=40)
        reported = own.value(problem)
        assert re.fullmatch(r"declined: 451 4\.3\.1 Disk full \(the last \d+ attempts\)", reported)
        finding = mail.of_mail(mail.state_of(reported))
        assert finding.what.startswith("mail accepts no mails: 451 4.3.1 Disk full") and "go by themselves" in finding.do
        server.answers.clear()
        server.next_to("ann@example.com")
        eventually(lambda: not own.rows(problem), seconds=40)


def test_what_a_failed_mail_says_about_the_server() -> None:
    def told(*errors: Exception) -> str | None:
        state = MailState()
        for error in errors:
            state.failed(error)
        return state.problem

    later, never = (aiosmtplib.SMTPSenderRefused(code, "text", "stint@example.com") for code in (451, 551))
    assert (told(later, later), told(never, never, never)) == (None, None), "it may be about these mails"
    assert told(later, later, later) == "declined: 451 text (the last 3 attempts)"
    assert told(aiosmtplib.SMTPConnectResponseError(421, "too busy")) == "declined: 421 too busy"
    assert told(aiosmtplib.SMTPAuthenticationError(454, "later")) == "declined: 454 later"
    assert told(aiosmtplib.SMTPAuthenticationError(535, "wrong")) == "refused: 535 wrong"
    assert told(later, later, later, OSError("away")) == "unreachable: OSError"


@pytest.mark.parametrize("url", ["smtp://jo:half/word@mail.example.com:587", "smtp://mail.example.com:99999", "smtp://[::1"])
def test_an_smtp_url_that_is_no_url_is_named_without_its_password_and_ends_no_heartbeat(url: str) -> None:
    state = asyncio.run(mail.probe(url))
    assert state.startswith("does not answer: SMTP_URL is no URL") and "half" not in state
    # a worker watches and sends heartbeats in one group of tasks: an error here would end its heartbeats
    watched = MailState()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(server_watch.watch_mail(url, watched), 0.2))
    assert watched.problem is not None and mail.state_of(watched.problem) == state


def test_the_mail_server_is_looked_at_again_while_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "MAIL_SECONDS", 0.01)

    async def watched() -> None:
        with mail_server(refuses_passwords=True) as server:
            state = MailState()
            task = asyncio.create_task(server_watch.watch_mail(f"smtp://stint:right@127.0.0.1:{server.port}", state))
            async with asyncio.timeout(20):
                while state.problem is None:  # noqa: ASYNC110 - it sets no event
                    await asyncio.sleep(0.01)
                server.refuses_passwords = False
                while state.problem is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                used = server.connections
                await asyncio.sleep(0.1)
            assert server.connections == used, "a server that can be used is left alone"
            state.failed(OSError("later"))
            assert state.problem == "unreachable: OSError"
            task.cancel()

    asyncio.run(watched())


def test_a_look_at_a_server_that_fails_in_an_unknown_way_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(server_watch, "calls", {"Xero": "unreachable: no way"})
    looks: list[str] = []

    async def look(_: Settings) -> str | None:
        looks.append("Xero")
        if len(looks) == 1:
            raise RuntimeError("an answer that nobody expects")
        return None

    async def watched() -> None:
        monkeypatch.setitem(server_watch.PROBES, "Xero", look)
        task = asyncio.create_task(server_watch.watch_calls(Settings(database_url="", secret_key="x" * 32, _env_file=None)))
        async with asyncio.timeout(20):
            while server_watch.calls:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(watched())
    assert looks == ["Xero", "Xero"]


def test_a_server_that_did_not_answer_a_call_is_reported_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(server_watch, "calls", {})

    async def token(_: Settings) -> str:
        return "of Xero"

    monkeypatch.setattr(server_watch, "_xero_token", token)
    settings = Settings(database_url="", secret_key="x" * 32, slack_bot_token="xoxb-1", _env_file=None)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"ok": false, "error": "invalid_auth"}'
        head = f"HTTP/1.1 404 Not Found\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\nconnection: close"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async def watched(error: Exception, name: str) -> list[str]:
        port = free_port()
        url = f"http://127.0.0.1:{port}/"
        known = settings.model_copy(update={"slack_api_url": url, "xero_api_url": url})
        server_watch.call_failed(error)
        first = server_watch.calls[name]
        task = asyncio.create_task(server_watch.watch_calls(known))
        async with asyncio.timeout(20):
            while server_watch.calls[name] == first:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)
            second = server_watch.calls[name]
            async with await asyncio.start_server(answer, "127.0.0.1", port):
                while name in server_watch.calls:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        task.cancel()
        return [first, second]

    assert asyncio.run(watched(NotSent("no way"), "Xero")) == ["unreachable: no way", "unreachable: Xero cannot be reached"]
    first, second = asyncio.run(watched(SlackUnavailable("no way"), "Slack"))
    assert first == "unreachable: Slack is unavailable: no way" and second.endswith(": Connection refused")
    server_watch.call_failed(Offline("the organisation is offline"))
    server_watch.call_failed(ValueError("of the handler"))
    assert server_watch.calls == {}

    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    worker = Process(
        process="a:1", kind="work", queues=["xero"], started_at=at, seen_at=at, alive=True, problems={"Xero": second}
    )
    [found, *_] = diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=[worker]))
    assert found.what.startswith("Xero does not answer: ") and "status.xero.com" in found.do
