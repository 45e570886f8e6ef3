"""Certificates, and a server that ends TLS in front of RabbitMQ or Postgres."""

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # what a client of Postgres sends before TLS


@dataclass(frozen=True)
class Files:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of one test. It and its certificates are valid for an hour, unless a test says otherwise."""

    def __init__(self, directory: Path, name: str = "authority", *, valid: timedelta = timedelta(hours=1)) -> None:
        self._directory, self._name = directory, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(self._name, self._key, valid).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def certificate(self, name: str, *, valid: timedelta = timedelta(hours=1)) -> Files:
        """For a server at that host name or address, or for a client of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(subject, key, valid).add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        files = Files(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        files.certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        files.key.chmod(0o600)  # libpq uses no other
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta = timedelta(hours=1)
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + valid)
        )


class TlsServer:
    """Ends TLS, and forwards to `target`: host:port, or the path of a Unix socket. With `authority`, a client needs a
    certificate. `clients`: the common name of each client that was let in."""

    def __init__(self, target: str, files: Files, authority: Authority | None = None) -> None:
        self.target, self.clients, self.port = target, list[str](), 0
        self.is_postgres = target.startswith("/")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(files.certificate, files.key)
        if authority is not None:
            self._context.load_verify_locations(authority.file)
            self._context.verify_mode = ssl.CERT_REQUIRED

    async def serve(self, started: threading.Event, ended: asyncio.Event) -> None:
        tls = None if self.is_postgres else self._context
        async with await asyncio.start_server(self._handle, "127.0.0.1", 0, ssl=tls) as server:
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await ended.wait()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_postgres:
            assert await reader.readexactly(8) == _SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(self._context)
        certificate = writer.get_extra_info("peercert") or {}
        self.clients.append(dict(pair for (pair,) in certificate.get("subject", ())).get("commonName", ""))
        if self.target.startswith("/"):
            inner, outer = await asyncio.open_unix_connection(self.target)
        else:
            host, _, port = self.target.rpartition(":")
            inner, outer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        finally:
            outer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def _end_all() -> None:
    """Ends the other tasks of the event loop, and lets the transports that they close close their sockets."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)


@contextmanager
def tls_server(target: str, files: Files, authority: Authority | None = None) -> Iterator[TlsServer]:
    """A running one, in a thread of its own."""
    made, started, ended = TlsServer(target, files, authority), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(made.serve(started, ended),), daemon=True)
    thread.start()
    try:
        assert started.wait(10)
        yield made
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.run_until_complete(_end_all())
        loop.close()
