"""The RabbitMQ servers of AMQP_URL, and the order in which they are tried.

AMQP_URL is one URL, or a list of URLs with commas or spaces between them: the servers of one cluster. Connections try the
addresses in a random order, so that they spread over the cluster. An address that could not be used comes last for a while
(schemas/servers/recent_failures.py).

For TLS (amqps://), parameters of the URL name files, as other clients of RabbitMQ have it: `cacertfile` for the certificate
authority of the server, `certfile` and `keyfile` for the client. The certificate of the server is always verified, with the
host of the URL.
"""

import random
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pika

from schemas.servers.lost_hosts import Address
from schemas.servers.recent_failures import RecentFailures
from schemas.setting_values import amqp_urls
from schemas.settings import SettingsMissing

HEARTBEAT_SECONDS = 15  # unless the URL sets another; a server that is silent for longer counts as lost
CONNECT_SECONDS = 5  # how long one address may take to open a connection, before the next address is tried
_TLS_FILES = ("cacertfile", "certfile", "keyfile")


@dataclass(frozen=True)
class _Url:
    """One URL of AMQP_URL."""

    pika_url: str  # without the parameters that name files, which pika does not know
    host: str
    port: int
    tls: ssl.SSLContext | None

    def parameters(self, address: str) -> pika.URLParameters:
        """The parameters of pika for one address of the host."""
        parameters = pika.URLParameters(self.pika_url)
        parameters.host = address
        if self.tls is not None:
            parameters.ssl_options = pika.SSLOptions(self.tls, server_hostname=self.host)
        parameters.heartbeat = parameters.heartbeat or HEARTBEAT_SECONDS
        parameters.socket_timeout = parameters.stack_timeout = CONNECT_SECONDS
        return parameters

    def addresses(self) -> list[str]:
        """The addresses of the host, in the order in which to try them.

        IPv4 and IPv6 come in the order in which the system has them; addresses of the same family are in a random order. If the
        name of the host cannot be resolved, the name itself is returned: then pika's error says why.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return [self.host]
        by_family: dict[int, list[str]] = {}
        for family, _, _, _, address in random.sample(found, len(found)):
            by_family.setdefault(family, []).append(str(address[0]))
        families = dict.fromkeys(family for family, *_ in found)  # without duplicates
        return [address for family in families for address in by_family[family]]


class RabbitHosts:
    """The servers of one AMQP_URL, as this process knows them. Any thread may call its methods."""

    def __init__(self, amqp_url: str) -> None:
        try:
            self._urls = [_read(url) for url in amqp_urls(amqp_url)]
        except ValueError as error:
            raise SettingsMissing(
                f"AMQP_URL is not the URL of a RabbitMQ, or a list of them: {error}. Write amqp://user:password@host:5672/vhost."
            ) from None
        self._failures = RecentFailures()

    def in_order(self) -> list[pika.URLParameters]:
        """pika's parameters for each address, in the order in which to try them. May wait for the resolution of names."""
        urls = random.sample(self._urls, len(self._urls))
        by_address = {(address, url.port): url for url in urls for address in url.addresses()}
        ordered = self._failures.last(by_address)  # those that have failed come last
        return [by_address[address, port].parameters(address) for address, port in ordered]

    @property
    def virtual_host(self) -> str:
        """That of the first URL: they are of one cluster."""
        return str(pika.URLParameters(self._urls[0].pika_url).virtual_host)

    def addresses(self) -> dict[Address, pika.URLParameters]:
        """pika's parameters for each address of each host. May wait for the resolution of names."""
        return {
            Address(f"{url.host}:{url.port}", address if address != url.host else ""): url.parameters(address)
            for url in self._urls
            for address in url.addresses()
        }

    def failed(self, parameters: pika.connection.Parameters) -> None:
        self._failures.failed((parameters.host, parameters.port))

    def worked(self, parameters: pika.connection.Parameters) -> None:
        self._failures.worked((parameters.host, parameters.port))


@lru_cache(maxsize=8)
def hosts_of(amqp_url: str) -> RabbitHosts:
    """The servers of AMQP_URL. Raises SettingsMissing if AMQP_URL, or a file that it names, cannot be used."""
    return RabbitHosts(amqp_url)


def _read(url: str) -> _Url:
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    files = {name: value for name, value in query if name in _TLS_FILES}
    rest = urlencode([(name, value) for name, value in query if name not in _TLS_FILES])
    pika_url = urlunsplit(parts._replace(query=rest))
    parameters = pika.URLParameters(pika_url)
    return _Url(pika_url, parameters.host, parameters.port, _tls(files) if parts.scheme == "amqps" else None)


def _tls(files: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("cacertfile"))
        if "certfile" in files:
            context.load_cert_chain(files["certfile"], files.get("keyfile"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(f"{name}={value}" for name, value in files.items())
        raise SettingsMissing(f"A file for TLS that AMQP_URL names cannot be used ({named}): {error}.") from None
    return context
