"""Sends mail by SMTP: one message to one recipient, in plain text and HTML.

A refusal with 5xx is final. After any other failure, from 4xx to a timeout, a retry may help. If a response is lost, it is not
known whether the message has arrived: it is sent again, with the same Message-ID.
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

from schemas.email_addresses import email_address
from schemas.errors import NonRetryable
from schemas.messages import Link, SendMail
from schemas.servers.error_words import address, in_words
from schemas.settings import LOOPBACK, Settings

QUIT_SECONDS = 1
MAX_SUBJECT_LENGTH, MAX_ANSWER_LENGTH = 150, 200
MAX_ADDRESS_LENGTH = 1_000  # with the name before it
NO_URL = "SMTP_URL is no URL; in a password, % # / : ? @ are written as %25 %23 %2F %3A %3F %40"


class LoginRefused(Exception):
    """The mail server refuses the user or the password of SMTP_URL, with this answer."""

    def __init__(self, answer: str) -> None:
        super().__init__(f"the mail server refuses the login of SMTP_URL: {answer}")
        self.answer = answer


async def deliver(mail: SendMail, *, message_id: UUID, settings: Settings) -> None:
    """Sends the mail. Raises NonRetryable if the server refuses it with 5xx, and if SMTP_URL is not set.

    After other errors a retry may help. These are LoginRefused, and the errors of aiosmtplib and of the system.
    """
    message = compose(mail, message_id=message_id, sender=settings.mail_from)
    if settings.smtp_url is None:
        raise NonRetryable("SMTP_URL is not set: name a mail server, restart, and replay this message.")
    client = _client(settings.smtp_url.get_secret_value(), timeout=settings.stint_mail_seconds)
    try:
        try:
            await client.connect()
            await client.send_message(message)
            # the server has accepted the mail: a failing QUIT is no reason to send it again
            with suppress(aiosmtplib.SMTPException):
                await client.quit(timeout=QUIT_SECONDS)
        finally:
            client.close()
    except aiosmtplib.SMTPAuthenticationError as error:
        if error.code < 500:  # it cannot look at the password now
            raise
        # not about this mail: it is sent once the password is right
        raise LoginRefused(f"{error.code} {error.message}") from error
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = error.recipients[0]
        _raise_for(refused.code, refused.message, error)
    except aiosmtplib.SMTPResponseException as error:
        _raise_for(error.code, error.message, error)


async def problem(url: str, *, seconds: float) -> str | None:
    """Connects to the mail server of SMTP_URL, and logs in if the URL has a user.

    Returns None, or why the server cannot be used: `refused: the server's answer`, `declined: the server's answer` or
    `unreachable: the error`. `seconds` is the longest time for each of its answers.
    """
    try:
        client = _client(url, timeout=seconds)
    except ValueError as error:
        return f"unreachable: {error}"
    try:
        await client.connect()
        with suppress(aiosmtplib.SMTPException):
            await client.quit(timeout=QUIT_SECONDS)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        found = describe_problem(error) or f"unreachable: {in_words(error)}"
        return f"{found} at {address(client.hostname, client.port)}" if found.startswith("unreachable: ") else found
    finally:
        client.close()
    return None


def describe_problem(error: Exception) -> str | None:
    """Why the mail server cannot be used, as in `problem`; None for an error that may be about one mail."""
    if isinstance(error, LoginRefused):
        return f"refused: {error.answer}"
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        return f"refused: {error.code} {error.message}"
    if isinstance(error, aiosmtplib.SMTPAuthenticationError | aiosmtplib.SMTPConnectResponseError | aiosmtplib.SMTPHeloError):
        return f"declined: {error.code} {error.message}"
    if isinstance(error, aiosmtplib.SMTPConnectError | OSError):
        return f"unreachable: {in_words(error)}"
    return None


def temporary_refusal(error: Exception) -> str | None:
    """The server's answer, if it has refused a mail with 4xx. It may be about this mail or about all. None: another error."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return temporary_refusal(error.recipients[0])
    if isinstance(error, aiosmtplib.SMTPResponseException) and error.code < 500:
        return " ".join(f"{error.code} {error.message}".split())[:MAX_ANSWER_LENGTH]
    return None


def _client(url: str, *, timeout: float) -> aiosmtplib.SMTP:
    """A client of the mail server of SMTP_URL, which is not connected yet. Raises ValueError if it is no URL."""
    try:
        server = urlsplit(url)
        port = server.port
    except ValueError:
        raise ValueError(NO_URL) from None  # its text may have a part of the password
    user = unquote(server.username) if server.username else None
    implicit = server.scheme == "smtps"
    return aiosmtplib.SMTP(
        hostname=server.hostname,
        port=port or (465 if implicit else 25),
        username=user,
        password=unquote(server.password) if server.password else None,
        use_tls=implicit,
        # None: TLS where it is offered. A password goes over the network encrypted, or not at all.
        start_tls=None if implicit or user is None or server.hostname in LOOPBACK else True,
        tls_context=_tls_context(),
        timeout=timeout,
    )


@cache
def _tls_context() -> ssl.SSLContext:
    # loading the system's certificates takes longer than sending a mail
    return ssl.create_default_context()


def _raise_for(code: int, text: str, error: Exception) -> None:
    if code >= 500:
        raise NonRetryable(f"the mail server refuses this mail: {code} {text}") from error
    raise error


def compose(mail: SendMail, *, message_id: UUID, sender: str) -> EmailMessage:
    """The message to send. The same `message_id` gives the same Message-ID, so that mail servers can recognize a repetition.

    Raises NonRetryable for an invalid address."""
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
    """Parses `jo@example.com` or `Jo <jo@example.com>`: exactly one address, unchanged.

    The header parser of the standard library would find an address in almost any text, and several in some texts.
    """
    if len(text) > MAX_ADDRESS_LENGTH:
        raise NonRetryable(f"{text[:100]!r}… is no address that mail can be sent to: it has {len(text):,} characters")
    name, opening, address = text.removesuffix(">").partition("<") if text.endswith(">") else ("", "", text)
    is_named = bool(opening) and not any(character in name for character in ">\r\n")
    name, address = (unquote_name(name.rstrip()), address) if is_named else ("", text)
    try:
        found = email_address(address)
        # the domain in ASCII, as in DNS: not every server accepts others
        return Address(_one_line(name), addr_spec=f"{found.local_part}@{found.ascii_domain}")
    except (HeaderParseError, ValueError) as error:
        raise NonRetryable(f"{text!r} is no address that mail can be sent to: {error}") from error


def _one_line(text: str) -> str:
    """The text for a header, without line breaks and other control characters. These could start another header, or reverse the
    direction of the text."""
    visible = "".join(" " if _is_invisible(character) else character for character in text)
    line = re.sub(r"\s+", " ", visible).strip()
    return line if len(line) <= MAX_SUBJECT_LENGTH else f"{line[:MAX_SUBJECT_LENGTH]}…"


def _is_invisible(character: str) -> bool:
    # U+200D joins emoji
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character != "\u200d"


def _text(paragraphs: tuple[str, ...], link: Link | None) -> str:
    return "\n\n".join([*paragraphs, *([f"{link.text}: {link.url}"] if link else [])]) + "\n"


def _html(paragraphs: tuple[str, ...], link: Link | None) -> str:
    # dir=auto: text in Arabic or Hebrew is shown from right to left
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
