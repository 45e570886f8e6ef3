"""Mail as it goes out: one recipient, no forged headers, and a server's no is final."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from schemas.clients import mail
from schemas.errors import Permanent
from schemas.messages import SendMail
from schemas.settings import Settings
from tests.installation import SECRET_KEY
from tests.smtp import MailServer, mail_server


@pytest.fixture
def post() -> Iterator[MailServer]:
    with mail_server() as caught:
        yield caught


def deliver(post: MailServer, *, to: str = "ada@example.com", subject: str = "Hello", paragraph: str = "Text") -> None:
    settings = Settings(database_url="unused", secret_key=SecretStr(SECRET_KEY), smtp_url=SecretStr(post.url))
    letter = SendMail(to=to, subject=subject, paragraphs=(paragraph,))
    asyncio.run(mail.deliver(letter, message_id=uuid4(), settings=settings))


def test_a_mail_has_one_recipient_and_both_texts(post: MailServer) -> None:
    deliver(post, paragraph="5 < 6 & <b>")
    [caught] = post.mails
    plain, html = caught.message.iter_parts()
    assert caught.recipients == ("ada@example.com",)
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "5 < 6 & <b>" in plain.get_content()
    assert "5 &lt; 6 &amp; &lt;b&gt;" in html.get_content()


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\u2028", "\x85", "\0"])
def test_a_subject_cannot_begin_another_header(post: MailServer, end: str) -> None:
    deliver(post, subject=f"Hello{end}Bcc: eve@example.com")
    [caught] = post.mails
    assert caught.message["Bcc"] is None
    assert caught.message["Subject"] == "Hello Bcc: eve@example.com"
    assert caught.recipients == ("ada@example.com",)


@pytest.mark.parametrize("subject", ["👩‍💻 hosting", "שלום עולם", "long " * 25 + "end", "é" * 140])
def test_a_subject_arrives_as_it_was_written(post: MailServer, subject: str) -> None:
    deliver(post, subject=subject)
    assert post.mails[0].message["Subject"] == subject


@pytest.mark.parametrize(
    "to", ["ada@example.com, eve@example.com", "no address", "ada@example.com\r\nRCPT TO:<eve@example.com>", ""]
)
def test_what_is_no_single_address_is_never_sent_to(post: MailServer, to: str) -> None:
    with pytest.raises(Permanent):
        deliver(post, to=to)
    assert not post.mails


def test_a_domain_goes_out_as_dns_writes_it(post: MailServer) -> None:
    deliver(post, to="ada@bücher.example.com")
    assert post.recipients() == ["ada@xn--bcher-kva.example.com"]


def test_a_refusal_for_good_is_final_and_carries_its_reason(post: MailServer) -> None:
    post.answers["RCPT"] = ["550 no such mailbox"]
    with pytest.raises(Permanent, match="550 no such mailbox"):
        deliver(post)


def test_a_refusal_for_now_is_worth_another_try(post: MailServer) -> None:
    post.answers["RCPT"] = ["451 come back later"]
    with pytest.raises(Exception, match="451") as refused:
        deliver(post)
    assert not isinstance(refused.value, Permanent)
