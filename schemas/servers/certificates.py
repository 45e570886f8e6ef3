"""Certificates of TLS that will end soon, or have ended: those of RabbitMQ and Postgres, as they present them, and those in the
files that AMQP_URL and DATABASE_URL name."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from psycopg.conninfo import conninfo_to_dict

from schemas.setting_values import amqp_urls

SOON = timedelta(days=21)
ANSWER_SECONDS = 5.0  # of one server
ENDS, ENDED = "ends", "ended"  # the codes of problems
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # of Postgres's protocol; the answer is one byte
_FILES_OF_AMQP = {"certfile": "client certificate for RabbitMQ", "cacertfile": "authority of RabbitMQ"}
_FILES_OF_POSTGRES = {"sslcert": "client certificate for Postgres", "sslrootcert": "authority of Postgres"}


@dataclass(frozen=True)
class Certificate:
    """`name`: what it is of; `where`: the address, or the file, that has it."""

    name: str
    where: str
    ends_at: datetime


def problems(database_url: str, amqp_url: str, *, now: datetime | None = None) -> dict[str, str]:
    """By name, the certificate of that name that ends first, if it ends within SOON: `code: details`. It connects to each
    server, and waits for it. One that cannot be reached, or does not speak TLS, is left out: others tell of that."""
    now = now or datetime.now(UTC)
    found: dict[str, str] = {}
    for certificate in sorted([*_of_rabbitmq(amqp_url), *_of_postgres(database_url)], key=lambda each: each.ends_at):
        if certificate.ends_at < now + SOON and certificate.name not in found:
            code = ENDED if certificate.ends_at <= now else ENDS
            found[certificate.name] = f"{code}: {certificate.where}, {certificate.ends_at:%Y-%m-%d %H:%M} UTC"
    return found


def _of_rabbitmq(amqp_url: str) -> Iterator[Certificate]:
    for url in amqp_urls(amqp_url):
        parts = urlsplit(url)
        if parts.scheme != "amqps":
            continue
        files = dict(parse_qsl(parts.query))
        yield from _in_files(files, _FILES_OF_AMQP)
        context = _context(files.get("certfile"), files.get("keyfile"))
        host, port = parts.hostname or "localhost", parts.port or 5671
        with suppress(OSError), socket.create_connection((host, port), ANSWER_SECONDS) as plain:
            yield _presented("certificate of RabbitMQ", plain, host, port, context)


def _of_postgres(database_url: str) -> Iterator[Certificate]:
    parts = {name: str(value) for name, value in conninfo_to_dict(database_url).items() if value is not None}
    if (parts.get("sslmode") or os.environ.get("PGSSLMODE")) in ("disable", "allow"):
        return
    yield from _in_files(parts, _FILES_OF_POSTGRES)
    context = _context(parts.get("sslcert"), parts.get("sslkey"))
    is_direct = parts.get("sslnegotiation") == "direct"
    if is_direct:
        context.set_alpn_protocols(["postgresql"])
    hosts, ports = parts.get("host", "").split(","), parts.get("port", "").split(",")
    for host, port_text in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False):
        if not host or host.startswith(("/", "@")):
            continue  # a Unix socket
        port = int(port_text or 5432)
        with suppress(OSError), socket.create_connection((host, port), ANSWER_SECONDS) as plain:
            if not is_direct:
                plain.sendall(_SSL_REQUEST)
            if is_direct or plain.recv(1) == b"S":
                yield _presented("certificate of Postgres", plain, host, port, context)


def _in_files(values: dict[str, str], names: dict[str, str]) -> Iterator[Certificate]:
    """The certificate of each file. A file of several authorities, such as the system's, has some that nobody needs any more,
    and is left out."""
    from cryptography import x509  # takes a while, and few installations have files

    for parameter, name in names.items():
        if file := values.get(parameter):
            with suppress(OSError, ValueError), open(file, "rb") as content:
                certificates = x509.load_pem_x509_certificates(content.read())
                if len(certificates) == 1 or "client" in name:
                    yield Certificate(name, file, certificates[0].not_valid_after_utc)


def _context(certificate: str | None, key: str | None) -> ssl.SSLContext:
    """It accepts any certificate, to look at it, and sends nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        with suppress(OSError, ValueError):
            context.load_cert_chain(certificate, key)
    return context


def _presented(name: str, plain: socket.socket, host: str, port: int, context: ssl.SSLContext) -> Certificate:
    from cryptography import x509

    with context.wrap_socket(plain, server_hostname=host) as connected:
        content: Any = connected.getpeercert(binary_form=True)
    return Certificate(name, f"{host}:{port}", x509.load_der_x509_certificate(content).not_valid_after_utc)
