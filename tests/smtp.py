"""A real SMTP server for tests: it keeps what it takes, and misbehaves where it is told to."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

Answer = Callable[[str], str | None]


@dataclass(frozen=True)
class Mail:
    """One message that the server took, with the recipients of its envelope."""

    recipients: tuple[str, ...]
    message: EmailMessage


class Catcher:
    """Takes mail on `url` and keeps it in `mails`. `answers` may give another answer to a recipient than 250."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.answers: Answer = lambda recipient: None
        self.url = ""

    def recipients(self) -> list[str]:
        return sorted(recipient for mail in list(self.mails) for recipient in mail.recipients)

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:
        if (other := self.answers(address)) is not None:
            return other
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(Mail(tuple(envelope.rcpt_tos), message))
        return "250 kept"


@contextmanager
def catcher() -> Iterator[Catcher]:
    """A server on a port of its own, in a thread, until the block ends."""
    caught, loop = Catcher(), asyncio.new_event_loop()
    starting = loop.create_server(lambda: SMTP(caught, hostname="localhost", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0)
    server = loop.run_until_complete(starting)
    caught.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield caught
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
