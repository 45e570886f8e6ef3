"""Three hosts on one machine, and the network between them.

As root each host is a network namespace, and this process, which must be in namespaces of its own (`unshare --net --mount`),
is the router between them. So it can cut any two apart. Elsewhere hosts are addresses of the loopback interface, and nothing
is cut.
"""

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
VARIABLE = "STINT_TEST_CLUSTER_ROUTER"  # set in the namespace of its own: this process may be its router
LEFT_OUT = (
    "partitions and full disks of Postgres are left out: they need root, with `unshare` and `ip` (Debian: util-linux, iproute2)"
)


@dataclass(frozen=True)
class Host:
    """`network` has its address alone. `namespace` is a path; empty without one."""

    name: str
    network: str
    address: str
    namespace: str = ""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Programs and sockets that this thread makes in the block are on the host."""
        if not self.namespace:
            yield
            return
        with _opened(f"/proc/self/task/{threading.get_native_id()}/ns/net") as outside, _opened(self.namespace) as namespace:
            _enter(namespace)
            try:
                yield
            finally:
                _enter(outside)


class Network:
    """The hosts by name: a, b and c. `gateway` is this machine's address for all of them."""

    def __init__(self) -> None:
        self.can_cut = VARIABLE in os.environ
        self._held: list[int] = []  # the namespaces exist as long as these are open
        if self.can_cut:
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            _ip("link set lo up")
            self.gateway = "10.77.0.1"
            _ip(f"address add {self.gateway}/32 dev lo")
            self.hosts = {name: self._new_host(name, number) for number, name in enumerate("abc", start=1)}
        else:
            self.gateway, block = "127.0.0.1", random.randrange(2, 250)
            self.hosts = {
                name: Host(name, f"127.{block}.{number}.2/32", f"127.{block}.{number}.2") for number, name in enumerate("abc")
            }

    def _new_host(self, name: str, number: int) -> Host:
        namespace = self._new_namespace()
        host = Host(name, f"10.77.{number}.0/24", f"10.77.{number}.2", namespace)
        _ip(f"link add host-{name} type veth peer name eth0 netns {namespace}")
        _ip(f"address add 10.77.{number}.1/24 dev host-{name}")
        _ip(f"link set host-{name} up")
        with host.inside():
            for line in ("link set lo up", f"address add {host.address}/24 dev eth0", "link set eth0 up"):
                _ip(line)
            _ip(f"route add default via 10.77.{number}.1")
        return host

    def _new_namespace(self) -> str:
        """The path of a new one, which a thread makes: it ends, this process's own threads stay where they are."""

        def make() -> None:
            _check(_LIBC.unshare(_CLONE_NEWNET))
            self._held.append(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return f"/proc/{os.getpid()}/fd/{self._held[-1]}"

    def partition(self, *sides: str) -> None:
        """Drops everything between hosts of different sides, such as "a" and "bc". Nobody is told."""
        networks = [[self.hosts[name].network for name in side] for side in sides]
        self._drop(f"from {x} to {y}" for one, other in permutations(networks, 2) for x in one for y in other)

    def isolate(self, name: str) -> None:
        """Drops everything to the host and from it, that of clients included."""
        self._drop((f"to {self.hosts[name].network}", f"from {self.hosts[name].network}"))

    def heal(self) -> None:
        if self.can_cut:
            while not subprocess.run(["ip", "rule", "delete", "priority", "100"], capture_output=True).returncode:
                pass

    def _drop(self, selectors: Iterable[str]) -> None:
        assert self.can_cut, LEFT_OUT
        for selector in selectors:
            _ip(f"rule add {selector} priority 100 blackhole")

    def close(self) -> None:
        self.heal()
        for descriptor in self._held:
            os.close(descriptor)


def can_unshare() -> bool:
    """Whether this process may make namespaces of the network and of file systems, with the programs for it."""
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return not subprocess.run(["unshare", "--net", "--mount", "ip", "link", "set", "lo", "up"], capture_output=True).returncode


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(descriptor, "rb")):
        yield descriptor


def _enter(namespace: int) -> None:
    _check(_LIBC.setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ip(line: str) -> None:
    done = subprocess.run(["ip", *line.split()], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {line}: {done.stderr}"
