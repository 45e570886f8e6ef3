"""A real SMTP server for tests. It keeps all mail, and tests can make it fail."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.support.installation import eventually


@dataclass(frozen=True)
class Mail:
    """One message that the server accepted, with the recipients of its envelope."""

    recipients: tuple[str, ...]
    message: EmailMessage


@dataclass
class MailServer:
    """The server's behaviour, and the mail that it received. `answers` maps MAIL, RCPT, DATA and QUIT to the next responses:
    a line such as "451 later", "stall", or "drop"; "keep and drop" accepts the mail and closes without a response."""

    host: str = "127.0.0.1"
    seconds: float = 0.0  # before it answers to each mail
    tls: ssl.SSLContext | None = None
    answers: dict[str, list[str]] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    passwords: list[tuple[str, str]] = field(default_factory=list)
    refuses_passwords: bool = False
    connections: int = 0
    mailing: list[Session] = field(default_factory=list)  # the sessions in which a client began to send a mail
    looks: int = 0  # sessions that ended with QUIT and without a mail: the client looked whether it can use this server
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'smtps' if self.tls else 'smtp'}://{self.host}:{self.port}"

    @property
    def tries(self) -> int:
        """Connections that were made to send a mail. One that is being made to look only counts until it ends."""
        return self.connections - self.looks

    def recipients(self) -> list[str]:
        return sorted(address for mail in list(self.mails) for address in mail.recipients)

    def to(self, address: str) -> list[str]:
        """The plain text of each mail to that address."""
        bodies = [mail.message.get_body(("plain",)) for mail in list(self.mails) if address in mail.recipients]
        return [body.get_content() for body in bodies if body is not None]

    def next_to(self, address: str, after: int = 0) -> str:
        """Waits for the next mail to that address after the first `after`, and returns its text."""
        return str(eventually(lambda: self.to(address)[after:], seconds=40, why=f"mail to {address}")[0])

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        self.mailing.append(session)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await self._answer("MAIL", server) or "250 OK"

    async def handle_RCPT(self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if refusal := await self._answer("RCPT", server):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.seconds)
        told = self.answers.get("DATA", [])
        if told and told[0] == "keep and drop":
            self.keep(envelope)
            told[0] = "drop"
        if refusal := await self._answer("DATA", server):
            return refusal
        self.keep(envelope)
        return "250 kept"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.looks += session not in self.mailing
        return await self._answer("QUIT", server) or "221 bye"

    def keep(self, envelope: Envelope) -> None:
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        self.mails.append(Mail(tuple(envelope.rcpt_tos), message))

    async def _answer(self, stage: str, server: SMTP) -> str | None:
        told = self.answers.get(stage, [])
        if not told:
            return None
        match told.pop(0):
            case "stall":
                await asyncio.sleep(3600)
            case "drop":
                transport: Any = server.transport
                transport.abort()
            case line:
                return line
        return "421 gone"

    def check(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        self.passwords.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=not self.refuses_passwords, handled=False)

    def protocol(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        self.connections += 1
        return SMTP(
            self, hostname="localhost", enable_SMTPUTF8=True, loop=loop, authenticator=self.check, auth_require_tls=False
        )  # fmt: skip


Kind = TypeVar("Kind", bound=MailServer)


@contextmanager
def mail_server(**told: Any) -> Iterator[MailServer]:
    """Runs a server in a thread of its own."""
    with serving(MailServer(**told)) as server:
        yield server


@contextmanager
def serving(server: Kind) -> Iterator[Kind]:
    """Runs this server in a thread of its own."""
    started, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        listening = await loop.create_server(lambda: server.protocol(loop), server.host, 0, ssl=server.tls)
        server.port = listening.sockets[0].getsockname()[1]
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        listening.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        task = loop.create_task(serve())
        loop.call_soon(setattr, server, "_serving", task)
        loop.run_until_complete(task)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        task: Any = server._serving  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
