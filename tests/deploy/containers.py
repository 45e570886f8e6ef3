"""Services of compose.yaml as containers: runc, from Debian's package, does what Docker's engine has it do."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.up.packages.debian import Packages
from tests.deploy.images import Builder
from tests.support.debian import system_program

RUNC = Packages("runc", ("runc",), megabytes=3, with_dependencies=True)
TINI = Packages("tini", ("tini",), megabytes=1)  # Docker's init is the same program
INIT = "/sbin/docker-init"
ACCOUNT = 10001  # of the image
MEGABYTE, GIGABYTE = 2**20, 2**30
PERIOD = 100_000  # microseconds, of which a process may use `cpus` times as many


def memory(text: str) -> int:
    """Bytes of `512m` or `1g`."""
    return int(text[:-1]) * {"m": MEGABYTE, "g": GIGABYTE}[text[-1]]


def interpolated(text: str) -> str:
    """A value as Compose reads it where the environment and the file `.env` are empty."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@dataclass
class Container:
    """One that runs."""

    service: str
    name: str
    runc: list[str | Path]
    process: subprocess.Popen[bytes]
    log: Path

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in it, as `docker compose exec` runs one."""
        return subprocess.run([*self.runc, "exec", self.name, *words], capture_output=True, text=True)

    def output(self, *words: str) -> str:
        done = self.execute(*words)
        assert done.returncode == 0, f"{self.name}: {words}: {done.stdout[-2000:]}{done.stderr[-2000:]}{self.text[-2000:]}"
        return done.stdout.strip()

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def limits(self) -> tuple[int, int]:
        """Bytes of memory, and how many processes, as the kernel has them."""
        statistics = json.loads(subprocess.check_output([*self.runc, "events", "--stats", self.name]))["data"]
        return statistics["memory"]["usage"]["limit"], statistics["pids"]["limit"]

    def stop(self, status: int = 0) -> float:
        """Tells it to end. How many seconds it took to end with that status."""
        started = time.monotonic()
        subprocess.run([*self.runc, "kill", self.name, "TERM"], check=True, capture_output=True)
        assert self.process.wait(30) == status, self.text[-3000:]
        return time.monotonic() - started


@dataclass
class Containers:
    """Containers of the image `one`, on the network of this machine, where each of `hosts` is 127.0.0.1."""

    builder: Builder
    directory: Path
    secrets: dict[str, str]
    binds: Sequence[Path]
    hosts: Sequence[str]
    environment: dict[str, str]

    def __post_init__(self) -> None:
        program, self._outside = system_program(RUNC)
        self._init = Path(system_program(TINI)[0]).with_name("tini-static")
        self._runc: list[str | Path] = [program, "--root", self.directory / "state"]
        for name, value in self.secrets.items():
            (self.directory / name).write_text(value)
            (self.directory / name).chmod(0o644)
        (self.directory / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.hosts)))
        image = json.loads(self.builder.buildah("inspect", "--type", "image", "localhost/one"))["OCIv1"]["config"]
        assert image["User"] == str(ACCOUNT)
        self._environment, self._working_directory = image["Env"], image["WorkingDir"]

    @contextmanager
    def running(self, name: str, service: dict[str, Any], command: Sequence[str]) -> Iterator[Container]:
        """A service with what compose.yaml says of it, and the command. It is killed when the block ends."""
        made = self.builder.buildah("from", "localhost/one")
        bundle = self.directory / name
        bundle.mkdir()
        if any(":/mail" in volume for volume in service.get("volumes", [])):
            (bundle / "mail").mkdir(mode=0o700)
            os.chown(bundle / "mail", ACCOUNT, ACCOUNT)
        specification = self._specification(name, service, command, Path(self.builder.buildah("mount", made)), bundle)
        (bundle / "config.json").write_text(json.dumps(specification))
        log, known = bundle / "log", f"stint-{os.getpid()}-{name}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._runc, "run", "--bundle", bundle, known],
                env=self._outside,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield Container(name, known, self._runc, process, log)
        finally:
            if process.poll() is None:
                subprocess.run([*self._runc, "kill", known, "KILL"], capture_output=True)
                process.wait(30)
            self.builder.buildah("rm", made)

    def _specification(
        self, name: str, service: dict[str, Any], command: Sequence[str], root: Path, bundle: Path
    ) -> dict[str, Any]:
        """runc's own example, changed as the service says."""
        (bundle / "config.json").unlink(missing_ok=True)
        subprocess.run([*self._runc, "spec", "--bundle", bundle], check=True, env=self._outside)
        found: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        settings = {key: interpolated(str(value)) for key, value in service["environment"].items() if value is not None}
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        found["process"] |= {
            "args": [INIT, "--", *command],
            "env": [*self._environment, *(f"{key}={value}" for key, value in (settings | self.environment).items())],
            "cwd": self._working_directory,
            "user": {"uid": ACCOUNT, "gid": ACCOUNT},
            "terminal": False,
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in found["process"]["capabilities"]},
        }
        found["root"] = {"path": str(root), "readonly": service["read_only"]}
        found["hostname"] = name
        kinds = [namespace for namespace in found["linux"]["namespaces"] if namespace["type"] != "network"]
        found["linux"] |= {"namespaces": kinds, "cgroupsPath": f"/stint-{os.getpid()}-{name}"}
        found["linux"]["resources"] |= {
            "memory": {"limit": memory(service["mem_limit"])},
            "pids": {"limit": service["pids_limit"]},
            "cpu": {"period": PERIOD, "quota": int(service["cpus"] * PERIOD)},
        }
        found["mounts"] += [
            {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
            for place in service["tmpfs"]
        ]
        binds = {Path("/etc/hosts"): self.directory / "hosts", Path(INIT): self._init, **{path: path for path in self.binds}}
        binds |= {Path("/run/secrets") / secret: self.directory / secret for secret in service["secrets"]}
        found["mounts"] += [bind(inside, outside, "ro") for inside, outside in binds.items()]
        if (bundle / "mail").exists():
            found["mounts"].append(bind(Path("/mail"), bundle / "mail", "rw"))
        return found


def bind(inside: Path, outside: Path, mode: str) -> dict[str, Any]:
    return {"destination": str(inside), "type": "bind", "source": str(outside), "options": ["bind", mode]}
