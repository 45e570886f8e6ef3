"""Mail by a worker over real SMTP: one message to one recipient, retried only where a retry can help."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.errors import NonRetryable
from schemas.mail.smtp import compose
from schemas.messages import Link, SendMail
from tests.outbox import probe
from tests.support.installation import Installation, eventually
from tests.support.smtp import MailServer, mail_server

Posted = Callable[..., UUID]


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def post(own: Installation, server: MailServer, request: pytest.FixtureRequest) -> Posted:
    """Starts a worker with the server, and enqueues one mail. The fixture's parameter is STINT_MAIL_SECONDS, if given."""
    own.environment |= {"SMTP_URL": server.url, "STINT_MAIL_SECONDS": getattr(request, "param", "10")}
    own.start("relay", "work:mail")
    return lambda **more: put(own, **more)


def put(stint: Installation, **more: Any) -> UUID:
    mail = SendMail(**{"to": "jo@example.com", "subject": "Hello", "paragraphs": ("One", "Two")} | more)
    with stint.sql() as conn:
        return probe.enqueue(conn, mail)[0]


def becomes(stint: Installation, message_id: UUID, state: str) -> None:
    now = "SELECT state FROM messages WHERE id = %s"
    eventually(lambda: stint.value(now, message_id) == state, seconds=40, why=f"{state}: {stint.log('work:mail')[-1500:]}")


def test_a_mail_arrives_as_text_and_html_with_its_link(own: Installation, post: Posted, server: MailServer) -> None:
    message_id = post(
        to="jo@bücher.example", subject="Grüße 🎉", paragraphs=("Zeile & <b>1</b>", "שלום"),
        link=Link(text="Sign in", url="https://app.example.com/?a=1&b=2"), reply_to="Ada <ada@example.com>",
    )  # fmt: skip
    becomes(own, message_id, "done")
    [caught] = server.mails
    mail = caught.message
    assert caught.recipients == ("jo@xn--bcher-kva.example",)
    assert (mail["To"], mail["Subject"], mail["Reply-To"]) == ("jo@xn--bcher-kva.example", "Grüße 🎉", "Ada <ada@example.com>")
    assert mail["Message-ID"] == f"<{message_id}@localhost>" and mail["Date"]
    text, html = (mail.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
    assert text is not None and html is not None
    assert text.get_content().replace("\r\n", "\n") == "Zeile & <b>1</b>\n\nשלום\n\nSign in: https://app.example.com/?a=1&b=2\n"
    assert "Zeile &amp; &lt;b&gt;1&lt;/b&gt;" in html.get_content() and "a=1&amp;b=2" in html.get_content()


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_with_5xx_is_a_dead_letter_with_its_reason(
    stage: str, own: Installation, post: Posted, server: MailServer
) -> None:
    server.answers[stage] = ["550 no such person"]
    message_id = post()
    becomes(own, message_id, "dead")
    error = own.value("SELECT error FROM messages WHERE id = %s", message_id)
    assert "550" in error and "no such person" in error
    assert len(server.mailing) == 1 and server.mails == []


@pytest.mark.parametrize("post", ["1.5"], indirect=True, ids=["short timeout"])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_with_4xx_a_lost_connection_and_a_timeout_are_retried(
    stage: str, own: Installation, post: Posted, server: MailServer
) -> None:
    server.answers[stage] = ["451 later", "drop", "stall"]
    message_id = post()
    becomes(own, message_id, "done")
    assert server.answers[stage] == [] and server.recipients() == ["jo@example.com"]
    # three, and one more for each response that came too late on a slow machine
    attempts = own.value("SELECT attempts FROM messages WHERE id = %s", message_id)
    eventually(lambda: attempts == server.tries - 1, why=f"{attempts} attempts: {server}")


def test_after_a_lost_response_the_mail_is_sent_again_with_the_same_id_and_logged(
    own: Installation, post: Posted, server: MailServer
) -> None:
    server.answers["DATA"] = ["keep and drop"]
    message_id = post()
    becomes(own, message_id, "done")
    assert server.recipients() == ["jo@example.com"] * 2
    assert {mail.message["Message-ID"] for mail in server.mails} == {f"<{message_id}@localhost>"}
    assert "sending this mail again" in own.log("work:mail") and str(message_id) in own.log("work:mail")


def test_an_unreachable_server_is_retried(own: Installation) -> None:
    with mail_server() as stopped:
        pass
    own.environment["SMTP_URL"] = stopped.url
    own.start("relay", "work:mail")
    eventually(lambda: "working on" in own.log("work:mail"), seconds=40)
    message_id = put(own)
    eventually(lambda: own.value("SELECT attempts FROM messages WHERE id = %s", message_id) >= 2)
    assert own.value("SELECT state <> 'dead' FROM messages WHERE id = %s", message_id)


def test_without_smtp_url_the_dead_letter_names_the_setting(own: Installation) -> None:
    own.start("relay", "work:mail")
    message_id = put(own)
    becomes(own, message_id, "dead")
    assert "SMTP_URL" in own.value("SELECT error FROM messages WHERE id = %s", message_id)


BAD = ["jo@example.com\r\nBcc: eve@example.com", "jo@example.com, eve@example.com", "jo", "", "jo@", "<>", "jo@exa mple.com"]


@pytest.mark.parametrize("address", BAD)
def test_an_invalid_address_is_never_sent_to(address: str) -> None:
    with pytest.raises(NonRetryable):
        compose(make_mail(to=address), message_id=uuid4(), sender="Stint <stint@example.com>")


def make_mail(**more: Any) -> SendMail:
    return SendMail(**{"to": "jo@example.com", "subject": "Hello", "paragraphs": ("One",)} | more)


@pytest.mark.parametrize(
    "text", ["a\r\nBcc: eve@example.com", "a\nb", "a\u2028b", "a\x00b", "\u202egnp.exe", "🎉" * 500, "x" * 5000]
)
def test_a_subject_is_one_line_whatever_it_contains(text: str) -> None:
    message = compose(
        make_mail(subject=text, reply_to='"J\\"o" <jo@example.com>'), message_id=uuid4(), sender="stint@example.com"
    )
    raw = message.as_bytes()
    assert message["Bcc"] is None and b"\nBcc" not in raw.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 998 for line in raw.splitlines())
    assert "\n" not in message["Subject"] and "\u202e" not in message["Subject"]


def test_a_quoted_local_part_is_kept_unchanged(own: Installation, post: Posted, server: MailServer) -> None:
    becomes(own, post(to='"jo smith"@example.com'), "done")
    assert server.recipients() == ['"jo smith"@example.com']


def test_a_password_is_never_sent_unencrypted(own: Installation) -> None:
    with mail_server(host="127.0.0.2") as plain:
        own.environment["SMTP_URL"] = plain.url.replace("//", "//stint:secret-word@")
        own.start("relay", "work:mail")
        message_id = put(own)
        eventually(lambda: own.value("SELECT attempts FROM messages WHERE id = %s", message_id) >= 1)
        assert plain.passwords == [] and plain.mails == []
        assert "secret-word" not in own.log("work:mail")
        assert not own.value("SELECT count(*) FROM message_attempts WHERE traceback || error LIKE '%%secret-word%%'")


def test_the_password_is_sent_only_to_a_server_with_a_trusted_certificate(own: Installation, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with mail_server(host="127.0.0.2", tls=context) as server:
        own.environment["SMTP_URL"] = server.url.replace("//", "//stint:secret-word@")
        own.start("relay", "work:mail")
        message_id = put(own)
        eventually(lambda: own.value("SELECT attempts FROM messages WHERE id = %s", message_id) >= 1)
        assert server.passwords == [] and server.mails == []
        own.kill("work:mail")
        own.environment["SSL_CERT_FILE"] = str(certificate)
        own.start("work:mail")
        becomes(own, message_id, "done")
        assert set(server.passwords) == {("stint", "secret-word")}  # once for the mail, and to look whether the login works
        # the worker has loaded the certificates once: loading them for each mail took longer than sending it
        certificate.unlink()
        becomes(own, put(own), "done")


def make_certificate(directory: Path) -> Path:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.2"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = directory / "mail.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file
