"""A call to another server is over when its deadline is, also if the answer comes byte by byte without an end."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from schemas.identity import cognito, jwks
from schemas.mail import smtp
from schemas.messages import SendMail
from schemas.settings import Settings
from schemas.slack.client import open_client
from schemas.xero import oauth
from tests.support.installation import SECRET_KEY

BYTE_SECONDS = 0.05  # between two bytes of an answer; a whole one takes about half a minute
ANSWERS = {
    "headers": b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 50,
    "body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{" + b" " * 500,
    "mail": b"220-" + b"hello\r\n220-" * 50,
}


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that sends the answer of this name, a byte every BYTE_SECONDS."""
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # the test has ended
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):  # the client has gone
                    for byte in ANSWERS[request.param]:
                        connection.sendall(bytes([byte]))
                        if done.wait(BYTE_SECONDS):
                            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def refresh(url: str) -> None:
    await oauth.refresh(settings(xero_identity_url=url), "token", seconds=0.5)


async def list_organisations(url: str) -> None:
    await oauth.list_organisations(settings(xero_api_url=url), "token", seconds=0.5)


async def fetch_keys(url: str) -> None:
    await jwks.fetch(url)


async def read_user_pool(url: str) -> None:
    known = settings(
        identity="cognito", cognito_user_pool_id="eu-central-1_Example", auth_client_ids="app", cognito_endpoint_url=url
    )
    await cognito.CognitoProvider(known).list_accounts()


async def ask_slack(url: str) -> None:
    async with open_client(settings(slack_api_url=f"{url}/api/", slack_bot_token="xoxb-none")) as slack:
        await slack.team(seconds=0.5)


async def send_mail(url: str) -> None:
    mail = SendMail(to="jo@example.com", subject="Hello", paragraphs=("Hello",))
    await smtp.deliver(
        mail, message_id=UUID(int=1), settings=settings(smtp_url=url.replace("http", "smtp"), stint_mail_seconds=0.5)
    )


def settings(**more: Any) -> Settings:
    values = {"database_url": "", "secret_key": SECRET_KEY, "xero_client_id": "app", "xero_client_secret": SecretStr("secret")}
    return Settings.model_validate(values | more)


HTTP = [refresh, list_organisations, fetch_keys, read_user_pool, ask_slack]


@pytest.mark.parametrize(
    ("call", "url"),
    [*((call, answer) for call in HTTP for answer in ("headers", "body")), (send_mail, "mail")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
    indirect=["url"],
)
def test_an_answer_that_trickles_ends_at_the_deadline(
    call: Callable[[str], Awaitable[None]], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cognito, "CALL_SECONDS", 0.5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")

    async def measure() -> float:
        start = time.monotonic()
        with pytest.raises(Exception, match=r".") as failed:
            await call(url)
        assert not isinstance(failed.value, AssertionError)
        return time.monotonic() - start

    assert asyncio.run(measure()) < min(len(answer) for answer in ANSWERS.values()) * BYTE_SECONDS / 2
