"""The window to the mail server: one message to one recipient, in plain text and HTML.

A server that says no (5xx) is asked once; anything else, from 4xx to silence, is worth another try. SMTP cannot tell whether
a message whose answer was lost has arrived: it is sent again, under the same Message-ID.
"""

import re
import ssl
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as RFC_5322
from email.utils import format_datetime
from email.utils import unquote as unquote_name
from functools import cache
from html import escape
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
from email_validator import EmailNotValidError

from schemas.addresses import email_address
from schemas.clients import LOOPBACK
from schemas.errors import Permanent
from schemas.messages import Link, SendMail
from schemas.settings import Settings

FAREWELL_SECONDS = 1
LONGEST_SUBJECT = 150


async def deliver(mail: SendMail, *, message_id: UUID, settings: Settings) -> None:
    """Hands the mail to the server. Raises Permanent when that refuses it for good, and when there is none."""
    message = compose(mail, message_id=message_id, sender=settings.mail_from)
    if settings.smtp_url is None:
        raise Permanent("SMTP_URL is not set: name a mail server, restart, and replay this message.")
    server = urlsplit(settings.smtp_url.get_secret_value())
    user = unquote(server.username) if server.username else None
    implicit = server.scheme == "smtps"
    client = aiosmtplib.SMTP(
        hostname=server.hostname,
        port=server.port or (465 if implicit else 25),
        username=user,
        password=unquote(server.password) if server.password else None,
        use_tls=implicit,
        # None: TLS where it is offered. A password goes over the network encrypted, or not at all.
        start_tls=None if implicit or user is None or server.hostname in LOOPBACK else True,
        tls_context=_trust(),
        timeout=settings.stint_mail_seconds,
    )
    try:
        try:
            await client.connect()
            await client.send_message(message)
            # taken is taken: what comes of the farewell is no reason to send it again
            with suppress(aiosmtplib.SMTPException):
                await client.quit(timeout=FAREWELL_SECONDS)
        finally:
            client.close()
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = error.recipients[0]
        _judge(refused.code, refused.message, error)
    except aiosmtplib.SMTPResponseException as error:
        _judge(error.code, error.message, error)


@cache
def _trust() -> ssl.SSLContext:
    # reading the system's certificates takes longer than sending a mail
    return ssl.create_default_context()


def _judge(code: int, said: str, error: Exception) -> None:
    if code >= 500:
        raise Permanent(f"the mail server refuses it: {code} {said}") from error
    raise error


def compose(mail: SendMail, *, message_id: UUID, sender: str) -> EmailMessage:
    """The message as it goes out: the same for the same id, so that a mail server can tell a repetition.

    Raises Permanent for an address that cannot be written to."""
    message = EmailMessage(policy=RFC_5322)
    origin = _address(sender)
    message["From"] = origin
    message["To"] = _address(mail.to)
    if mail.reply_to is not None:
        message["Reply-To"] = _address(mail.reply_to)
    message["Subject"] = _one_line(mail.subject)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{message_id}@{origin.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(mail.paragraphs, mail.link), cte="quoted-printable")
    message.add_alternative(_html(mail.paragraphs, mail.link), subtype="html", cte="quoted-printable")
    return message


def _address(text: str) -> Address:
    """`jo@example.com` or `Jo <jo@example.com>`: exactly one, taken as it stands or not at all. The library's own reader of
    such headers would find an address in almost anything, and several in some."""
    named = re.fullmatch(r"(.*?)\s*<([^<>]*)>", text)
    name, address = (unquote_name(named[1]), named[2]) if named else ("", text)
    try:
        found = email_address(address)
        # the domain as DNS writes it: not every server takes others
        return Address(_one_line(name), addr_spec=f"{found.local_part}@{found.ascii_domain}")
    except (EmailNotValidError, HeaderParseError, ValueError) as error:
        raise Permanent(f"{text!r} is no address that mail can be sent to: {error}") from error


def _one_line(text: str) -> str:
    """The text for a header: without line breaks and other control characters, which could begin another header or turn the
    line around."""
    visible = "".join(" " if _is_invisible(character) else character for character in text)
    line = re.sub(r"\s+", " ", visible).strip()
    return line if len(line) <= LONGEST_SUBJECT else f"{line[:LONGEST_SUBJECT]}…"


def _is_invisible(character: str) -> bool:
    # the joiner holds emoji together
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character != "\u200d"


def _text(paragraphs: tuple[str, ...], link: Link | None) -> str:
    return "\n\n".join([*paragraphs, *([f"{link.text}: {link.url}"] if link else [])]) + "\n"


def _html(paragraphs: tuple[str, ...], link: Link | None) -> str:
    # dir=auto: a name or a message in Arabic or Hebrew reads from its own side
    parts = [f'<p dir="auto">{escape(text).replace(chr(10), "<br>")}</p>' for text in paragraphs]
    if link is not None:
        parts.append(f'<p><a href="{escape(link.url)}">{escape(link.text)}</a></p>')
    return "\n".join(
        [
            '<!doctype html><html><head><meta charset="utf-8"></head>',
            '<body style="font-family: sans-serif; line-height: 1.5; max-width: 40em">',
            *parts,
            "</body></html>\n",
        ]
    )
