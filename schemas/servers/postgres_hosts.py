"""Which host of Postgres a new connection tries first, if DATABASE_URL names several, or a name that has several addresses.

A host that does not answer delays the first connection by HOST_SECONDS. After that, connections of this process try it only if
no other host can be used, until schemas/servers/recent_failures.py forgets the failure.
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from random import shuffle
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from schemas.servers.recent_failures import RecentFailures

HOST_SECONDS = 2  # the longest attempt at one of several hosts; libpq allows no less
_USUAL_PORT = "5432"


@dataclass(frozen=True)
class Host:
    """One address to try. `address` is empty for the path of a Unix socket, and for a name that could not be resolved."""

    name: str
    port: str
    address: str = ""

    def options(self) -> dict[str, Any]:
        """psycopg's keyword arguments, which name this host instead of all."""
        return {"host": self.name, "port": self.port or None, "hostaddr": self.address or None}


class Hosts:
    """The hosts of one DATABASE_URL, as this process knows them."""

    def __init__(self, conninfo: str) -> None:
        parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
        names = parts.get("host", "").split(",")
        # of hosts without a port libpq makes the port ",,"; where it makes none, PGPORT may name one
        ports = [port or _USUAL_PORT for port in parts["port"].split(",")] if "port" in parts else [""]
        ports *= len(names) if len(ports) == 1 else 1
        # libpq refuses numbers that differ, and knows what to do with addresses that were given
        usable = len(ports) == len(names) and "hostaddr" not in parts and all(names)
        self._named = [Host(name, port) for name, port in zip(names, ports, strict=False)] if usable else []
        self._is_random = parts.get("load_balance_hosts") == "random"
        self._chooses = "target_session_attrs" in parts or "PGTARGETSESSIONATTRS" in os.environ
        self._count = len(self._named)
        self.failures = RecentFailures()

    def options(self) -> dict[str, Any]:
        """psycopg's keyword arguments for each of several hosts: a host that accepts no writes is not used unless DATABASE_URL
        says so."""
        attributes = {} if self._chooses or len(self._named) < 2 else {"target_session_attrs": "read-write"}
        return {"connect_timeout": HOST_SECONDS} | attributes

    def longest_seconds(self, one_host_seconds: float) -> float:
        """How long an attempt to connect may take: `one_host_seconds` if there is one host, as far as is known."""
        return one_host_seconds if self._count < 2 else self._count * HOST_SECONDS + 1.0

    async def in_order(self) -> list[Host]:
        """The addresses in the order in which to try them. Empty if there is only one host with one address."""
        found = [host for named in self._named for host in await _resolve(named)]
        self._count = len(found)
        if self._is_random:
            shuffle(found)
        return self.failures.last(found) if len(found) > 1 else []


@lru_cache(maxsize=8)
def hosts_of(conninfo: str) -> Hosts:
    """Raises psycopg.ProgrammingError if it is no connection string."""
    return Hosts(conninfo)


async def _resolve(host: Host) -> list[Host]:
    """The host with each of its addresses."""
    if host.name.startswith(("/", "@")) or _is_address(host.name):
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.name, host.port or 5432, type=socket.SOCK_STREAM)
    except OSError:
        return [host]  # psycopg says what is wrong with the name
    return [Host(host.name, host.port, str(address[0])) for *_, address in found]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
