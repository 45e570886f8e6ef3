"""The SMTP client: one recipient, no forged headers, and a refusal with 5xx is final."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from schemas.errors import NonRetryable
from schemas.mail import smtp
from schemas.messages import SendMail
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY
from tests.support.smtp import MailServer, mail_server


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as caught:
        yield caught


def deliver(server: MailServer, *, to: str = "ada@example.com", subject: str = "Hello", paragraph: str = "Text") -> None:
    settings = Settings(database_url="unused", secret_key=SecretStr(SECRET_KEY), smtp_url=SecretStr(server.url))
    mail = SendMail(to=to, subject=subject, paragraphs=(paragraph,))
    asyncio.run(smtp.deliver(mail, message_id=uuid4(), settings=settings))


def test_a_mail_has_one_recipient_and_both_texts(server: MailServer) -> None:
    deliver(server, paragraph="5 < 6 & <b>")
    [caught] = server.mails
    plain, html = caught.message.iter_parts()
    assert caught.recipients == ("ada@example.com",)
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "5 < 6 & <b>" in plain.get_content()
    assert "5 &lt; 6 &amp; &lt;b&gt;" in html.get_content()


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\u2028", "\x85", "\0"])
def test_a_subject_cannot_start_another_header(server: MailServer, end: str) -> None:
    deliver(server, subject=f"Hello{end}Bcc: eve@example.com")
    [caught] = server.mails
    assert caught.message["Bcc"] is None
    assert caught.message["Subject"] == "Hello Bcc: eve@example.com"
    assert caught.recipients == ("ada@example.com",)


@pytest.mark.parametrize("subject", ["👩‍💻 hosting", "שלום עולם", "long " * 25 + "end", "é" * 140])
def test_a_subject_arrives_unchanged(server: MailServer, subject: str) -> None:
    deliver(server, subject=subject)
    assert server.mails[0].message["Subject"] == subject


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>, Eve <eve@example.com>",
        "no address",
        "ada@example.com\r\nRCPT TO:<eve@example.com>",
        "",
    ],
)
def test_anything_but_one_address_is_never_sent_to(server: MailServer, to: str) -> None:
    with pytest.raises(NonRetryable):
        deliver(server, to=to)
    assert not server.mails


def test_a_domain_is_sent_in_ascii_as_in_dns(server: MailServer) -> None:
    deliver(server, to="ada@bücher.example.com")
    assert server.recipients() == ["ada@xn--bcher-kva.example.com"]


def test_a_refusal_with_5xx_is_final_and_has_its_reason(server: MailServer) -> None:
    server.answers["RCPT"] = ["550 no such mailbox"]
    with pytest.raises(NonRetryable, match="550 no such mailbox"):
        deliver(server)


def test_a_refusal_with_4xx_can_be_retried(server: MailServer) -> None:
    server.answers["RCPT"] = ["451 come back later"]
    with pytest.raises(Exception, match="451") as refused:
        deliver(server)
    assert not isinstance(refused.value, NonRetryable)


@pytest.mark.parametrize("end", ["421 closing", "500 no", "drop"])
def test_a_server_that_fails_after_it_has_accepted_the_mail_is_no_reason_to_send_it_again(server: MailServer, end: str) -> None:
    server.answers["QUIT"] = [end]
    deliver(server)
    assert server.recipients() == ["ada@example.com"]
