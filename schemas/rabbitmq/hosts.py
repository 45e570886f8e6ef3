"""The RabbitMQ servers of AMQP_URL, which may name several of one cluster, and which of them is tried first.

AMQP_URL is one URL, or a list of URLs with commas or spaces between them. Connections try the addresses in a random order, so
that they spread over the cluster; one that could not be used comes last for a while (schemas/servers/recent_failures.py).

The files for TLS (amqps://) are named in the URL, as other clients of RabbitMQ have it: `cacertfile` has the certificate
authority of the server, `certfile` and `keyfile` are the client's. The server's certificate is always verified, with the host
of the URL.
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

HEARTBEAT_SECONDS = 15  # unless the URL sets another; a peer that is silent for longer is considered dead
# how long one address may take, to accept a connection and to open it: only then is the next one tried
CONNECT_SECONDS = 5
_TLS_FILES = ("cacertfile", "certfile", "keyfile")


@dataclass(frozen=True)
class _Url:
    """One URL. `pika_url` is without the names of files, which pika does not know."""

    pika_url: str
    host: str
    port: int
    tls: ssl.SSLContext | None

    def parameters(self, address: str) -> pika.URLParameters:
        """pika's, for one address of the host."""
        parameters = pika.URLParameters(self.pika_url)
        parameters.host = address
        if self.tls is not None:
            parameters.ssl_options = pika.SSLOptions(self.tls, server_hostname=self.host)
        parameters.heartbeat = parameters.heartbeat or HEARTBEAT_SECONDS
        parameters.socket_timeout = parameters.stack_timeout = CONNECT_SECONDS
        return parameters

    def addresses(self) -> list[str]:
        """Those of the name, in a random order for each family; the name, if it cannot be resolved: pika says why."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return [self.host]
        families = list(dict.fromkeys(family for family, *_ in found))
        shuffled = random.sample(found, len(found))
        return [str(address[0]) for _, *_, address in sorted(shuffled, key=lambda each: families.index(each[0]))]


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
        return [by_address[each].parameters(each[0]) for each in self._failures.last(by_address)]

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
    """Raises SettingsMissing if AMQP_URL, or a file that it names, cannot be used."""
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
