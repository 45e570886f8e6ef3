"""The units of systemd in ops/deploy/systemd, read, and their commands started as systemd starts them, as far as that is
possible without it: with a passed socket, the report of readiness, the filter of system calls, and no memory that becomes
executable."""

import ctypes
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.installation import CHECKOUT

UNITS = CHECKOUT / "ops" / "deploy" / "systemd"
INSTALLED = "/srv/stint"  # where the units expect the checkout
# from linux/prctl.h, and libseccomp's seccomp.h
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_SCMP_ACT_ALLOW, _SCMP_ACT_EPERM = 0x7FFF0000, 0x00050001


@dataclass(frozen=True)
class Unit:
    """A unit with what is common to all of them. `values` has each setting's values, in order."""

    name: str
    values: Mapping[str, list[str]]

    def command(self, instance: str = "") -> list[str]:
        """What ExecStart runs, from this checkout."""
        [line] = self.values["ExecStart"]
        return line.replace("%i", instance).replace(INSTALLED, str(CHECKOUT)).split()


def read(path: Path) -> Unit:
    values: dict[str, list[str]] = defaultdict(list)
    common = UNITS / "stint-.service.d" / "common.conf"
    for file in [path, *([common] if path.suffix == ".service" else [])]:
        for line in file.read_text().splitlines():
            name, is_setting, value = line.partition("=")
            if is_setting and not line.startswith("#"):
                values[name].append(value)
    return Unit(path.name, values)


def all_units() -> dict[str, Unit]:
    return {path.name: read(path) for path in UNITS.glob("stint-*.*") if path.is_file()}


@cache
def syscall_sets() -> dict[str, list[str]]:
    """The names in each of systemd's sets of system calls."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True)
    sets: dict[str, list[str]] = {}
    for line in shown.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            sets[word] = current = []
        elif word and not word.startswith("#"):
            current.append(word)
    return sets


def allowed_calls(unit: Unit) -> set[str]:
    """The names of the system calls that SystemCallFilter allows, as systemd reads several of them."""
    allowed = expand("@default")
    for line in unit.values["SystemCallFilter"]:
        named = {call for word in line.removeprefix("~").split() for call in expand(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def expand(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    return {call for part in syscall_sets()[word] for call in expand(part)}


class Confinement:
    """What a new process calls before it runs the command of a unit."""

    def __init__(self, unit: Unit) -> None:
        self._seccomp = ctypes.CDLL("libseccomp.so.2")
        self._libc = ctypes.CDLL(None)
        self._seccomp.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._seccomp.seccomp_init(_SCMP_ACT_EPERM))
        for name in allowed_calls(unit):
            number = self._seccomp.seccomp_syscall_resolve_name(name.encode())
            self._seccomp.seccomp_rule_add(self._filter, ctypes.c_uint32(_SCMP_ACT_ALLOW), number, 0)

    def __call__(self) -> None:
        self._libc.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # a kernel before 6.3 lacks it
        if self._seccomp.seccomp_load(self._filter):  # it sets NoNewPrivileges, too
            os._exit(99)


@contextmanager
def notify_socket(path: Path) -> Iterator[socket.socket]:
    """The socket to which a service of Type=notify reports."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports:
        reports.bind(str(path))
        yield reports


def start(
    unit: Unit, environment: Mapping[str, str], log: Path, *, instance: str = "", listening: socket.socket | None = None
) -> subprocess.Popen[bytes]:
    """Starts the unit's command, with a listening socket as descriptor 3 if it has one. It has none of this process's
    environment but `PATH`, as systemd sets it."""
    command = unit.command(instance)
    inherited: tuple[int, ...] = ()
    if listening is not None:
        # LISTEN_PID is the process that the shell becomes
        shell = f'exec 3<&{listening.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        command = ["bash", "-c", shell, "bash", *command]
        inherited = (listening.fileno(),)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd="/",
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            preexec_fn=Confinement(unit),
        )
