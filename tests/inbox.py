"""A mail server for tests: what arrived, and for whom."""

import email
import email.policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.installation import eventually, free_port


class Inbox:
    """Takes every message, on a port of its own."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, EmailMessage]] = []
        port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=port)
        self.url = f"smtp://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._controller.stop()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        message = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages += [(address, message) for address in envelope.rcpt_tos]
        return "250 taken"

    def to(self, address: str) -> list[str]:
        """The plain text of what arrived for that address."""
        bodies = [message.get_body(("plain",)) for to, message in list(self.messages) if to == address]
        return [body.get_content() for body in bodies if body is not None]

    def next_to(self, address: str, after: int = 0) -> str:
        """The text of the message after so many, when it is there."""
        return str(eventually(lambda: self.to(address)[after:], seconds=40, why=f"mail to {address}")[0])
