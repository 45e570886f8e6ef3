"""Which of several hosts cannot be used, when each of their addresses was tried."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """One address of a host. `host`: as the setting has it; `address`: empty if the host is an address itself, or the path of a
    Unix socket, or a name that has no address."""

    host: str
    address: str = ""


def lost(tried: Mapping[Address, str | None]) -> dict[str, str]:
    """By host, why it cannot be used. `tried`: all addresses, each with what is wrong, or None. Empty if none can be used at
    all: then the server does not answer, and others tell of that. A host that has IPv4 and IPv6 need not listen at both."""
    if all(tried.values()):
        return {}
    found: dict[str, str] = {}
    for host in dict.fromkeys(each.host for each in tried):
        of_host = {each.address: problem for each, problem in tried.items() if each.host == host}
        failed = {address: problem for address, problem in of_host.items() if problem is not None}
        if failed and len(failed) == len(of_host):
            found[host] = next(iter(failed.values()))
            continue
        used = {":" in address for address, problem in of_host.items() if problem is None}
        found |= {f"{host} ({address})": problem for address, problem in failed.items() if (":" in address) in used}
    return found
