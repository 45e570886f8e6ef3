"""One Postgres and one RabbitMQ for a whole run of pytest, started when the first test asks for them.

A process of their own, the host, has them as children: `python -m tests.support.servers DIRECTORY`. All workers of pytest share
it. It ends when the run ends, also when pytest is killed, and takes every process with it that the run has left behind. With
`--keep` it waits for the next run instead. These files in DIRECTORY are how processes find each other:

- `run.lock`: locked by pytest as long as the run lasts
- `host.lock`: locked by the host as long as it lives
- `workers`: how many processes of pytest run tests; 0: only pytest itself
- `launch.lock`: locked by a worker of pytest while it launches the host
- `keeper.lock`: locked by a program that makes several runs with `--keep`; the host ends after it
- `servers.json`: the addresses, when the servers can be used; `failure`: why they cannot
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# the directory of servers that outlive a run; a test of --keep has one of its own
KEPT = Path(os.environ.get("STINT_TEST_KEPT") or CHECKOUT / ".stint-test")
VARIABLE = "STINT_TEST_SERVERS"  # names the directory to all processes of a run; processes that carry it end with the run
TEMPLATE = "stint_template"
USES = ("", "-own", "-slack", "-xero", "-probes", "-apart")  # virtual hosts for each worker of pytest


@dataclass(frozen=True)
class Addresses:
    """Where the servers are. `fingerprint` says of which files they were made."""

    database_url: str  # the maintenance database; `new_database` clones the template
    amqp_urls: dict[str, str]  # by virtual host
    fingerprint: str


def directory() -> Path:
    return Path(os.environ[VARIABLE])


@cache
def addresses() -> Addresses:
    """The addresses of the run's servers, which are started if nobody has asked before. Raises RuntimeError when they cannot
    start."""
    launch()
    while not (found := _running(directory())):
        failure = directory() / "failure"
        if failure.exists():
            raise RuntimeError(f"The servers for the tests did not start: {failure.read_text()}")
        if not _is_locked(directory() / "host.lock"):
            raise RuntimeError(f"The servers for the tests ended while starting; see {directory() / 'host.log'}")
        time.sleep(0.02)
    return found


def launch() -> None:
    """Starts the host in the background unless one runs; replaces a kept one that other migrations or settings made."""
    place = directory()
    with _locked(place / "launch.lock"):
        if (place / "failure").exists():
            return
        found = _running(place)
        if found and found.fingerprint != fingerprint(place):
            stop(place)
        # The host inherits this lock, so it is locked from here on until the host ends, however it ends.
        with (place / "host.lock").open("a") as lock, (place / "host.log").open("ab") as log:
            if not _try_lock(lock.fileno()):
                return
            (place / "servers.json").unlink(missing_ok=True)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.support.servers", str(place), str(lock.fileno())],
                # without the variable: the host is the one process that does not end with the run
                env={name: value for name, value in os.environ.items() if name != VARIABLE} | {"PYTHONPATH": str(CHECKOUT)},
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C is for pytest
            )
            process.returncode = 0  # so that Python does not warn of a child that outlives us


def stop(place: Path) -> bool:
    """Ends the host and returns when its servers are gone; False when none was running."""
    if not _is_locked(place / "host.lock"):
        return False
    deadline = time.monotonic() + 60
    while _is_locked(place / "host.lock"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"The servers for the tests do not stop; see {place / 'host.log'}")
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((place / "host.pid").read_text()), signal.SIGTERM)
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def run_lock(place: Path, *, wait_seconds: float = 30) -> Iterator[None]:
    """Held by pytest for the whole run. Raises BlockingIOError when another run has it for longer than `wait_seconds`."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "run.lock").open("a") as lock:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(lock.fileno()):  # the host has it while it tidies up after the last run
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another run of the tests uses the servers in {place}")
            time.sleep(0.05)
        yield


def fingerprint(place: Path) -> str:
    """Of everything that servers are made of: the same fingerprint, the same servers."""
    files = [*(CHECKOUT / "schemas").rglob("*.sql"), *(CHECKOUT / "ops" / "up").glob("*.py"), Path(__file__)]
    digest = hashlib.sha256(repr(_virtual_hosts(place)).encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _virtual_hosts(place: Path) -> list[str]:
    """Those of this run's workers, since each costs RabbitMQ 50 ms of a processor; kept servers have those of any run."""
    count = int(os.environ.get("STINT_TEST_WORKERS", "0"))
    kept = place == KEPT
    workers = [f"gw{number}" for number in range(max(6, count) if kept else count)]
    if kept or not workers:
        workers.append("master")
    return [f"{worker}{use}" for worker in workers for use in USES]


def _running(place: Path) -> Addresses | None:
    if not _is_locked(place / "host.lock"):
        return None
    try:
        return Addresses(**json.loads((place / "servers.json").read_text()))
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def host(place: Path) -> None:
    """The life of the host: starts the servers, and stops them when the run ends or at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (place / "host.pid").write_text(str(os.getpid()))
    for old in ("postgres", "rabbitmq"):  # of a host that was killed
        shutil.rmtree(place / old, ignore_errors=True)
    try:
        _serve(place)
    except Exception as error:
        (place / "failure").write_text(f"{type(error).__name__}: {error}")
        raise
    finally:
        (place / "servers.json").unlink(missing_ok=True)


def _serve(place: Path) -> None:
    from ops.up.servers import Servers

    with Servers(place, durable=False, vhosts=_virtual_hosts(place)) as servers, (place / "run.lock").open("a") as run:
        make_template(servers.database_url)
        urls = {name: servers.amqp_url_of(name) for name in _virtual_hosts(place)}
        found = Addresses(servers.database_url, urls, fingerprint(place))
        unfinished = place / "servers.json.new"
        unfinished.write_text(json.dumps(asdict(found)))
        unfinished.rename(place / "servers.json")
        while True:
            fcntl.flock(run, fcntl.LOCK_EX)  # waits until the run ends
            end_processes_of(place)
            if place != KEPT:
                break
            _tidy(place, found)
            fcntl.flock(run, fcntl.LOCK_UN)
            while not _is_locked(place / "run.lock"):  # until the next run
                if _is_abandoned(place):
                    return
                time.sleep(0.2)
    shutil.rmtree(place.parent, ignore_errors=True)  # pytest was killed: else it stops the host before it releases the lock


def _is_abandoned(place: Path) -> bool:
    """Whether the servers were kept for a program that has ended (tests/mutants/copy_of_checkout.py)."""
    return (place / "keeper.lock").exists() and not _is_locked(place / "keeper.lock")


def make_template(database_url: str) -> None:
    """Makes the migrated database that `new_database` clones, with a key that signs tokens: to make one takes an installation,
    and to decrypt it each process, a tenth of a second of a processor."""
    import psycopg

    from schemas.identity.signing_keys import ensure_key
    from schemas.postgres.connection import Connection
    from schemas.postgres.migrate import migrate
    from tests.support.installation import SECRET_KEY, with_database

    async def fill(url: str) -> None:
        await migrate(url)
        async with await Connection.connect(url, autocommit=True) as conn:
            await ensure_key(conn, SECRET_KEY)

    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {TEMPLATE}".encode())
    asyncio.run(fill(with_database(database_url, TEMPLATE)))


def _tidy(place: Path, found: Addresses) -> None:
    """Drops the databases and the queues that the run has left."""
    import pika
    import psycopg

    from schemas.messages import QUEUES

    stale = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', %s)"
    with psycopg.connect(found.database_url, autocommit=True) as conn:
        for (name,) in conn.execute(stale, (TEMPLATE,)).fetchall():
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
    used_by = "gw" if int((place / "workers").read_text()) else "master"
    for url in (url for name, url in found.amqp_urls.items() if name.startswith(used_by)):
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            for queue in QUEUES:
                channel.queue_delete(queue)
                channel.queue_delete(f"{queue}.XQ")


def end_processes_of(place: Path) -> None:
    """Kills every process of the run: those that carry the variable in their environment."""
    carries = f"{VARIABLE}={place}".encode()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # a killed one may have started another meanwhile
        found = [entry for entry in Path("/proc").glob("[0-9]*") if carries in _environment(entry) and _runs(entry)]
        if not found:
            return
        for entry in found:
            with contextlib.suppress(OSError):
                os.kill(int(entry.name), signal.SIGKILL)
        time.sleep(0.05)


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _runs(entry: Path) -> bool:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[2]), False)  # the servers must not keep the lock when the host is killed
    host(Path(sys.argv[1]))
