"""What requests cause at Postgres: the statements that clients send it, and the bytes that it writes to its WAL."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from ops.bench.load import load
from ops.bench.pgbench import binaries
from ops.bench.stage import Stage
from ops.errors import CommandError

_STATEMENT = re.compile(r"(\d+) (\S+) LOG: {2}(?:statement|execute |fastpath)")
# the row of all resource managers: the number of records, their bytes, and then those of images of whole pages
_TOTAL = re.compile(r"^Total +\d+ +(\d+) \[", re.MULTILINE)
# Each statement is logged. Autovacuum writes when it happens to run.
_SETTINGS = {"log_statement": "all", "log_line_prefix": "%p %d ", "autovacuum": "off"}
_IDLE_STRETCHES = 3


@dataclass(frozen=True)
class Traffic:
    """Statements, each of which is a round trip, since Stint and the peer send none in a pipeline; BEGIN and COMMIT are among
    them. Bytes of WAL records without the images of whole pages, whose number depends on how long ago a checkpoint was."""

    statements: float
    wal_bytes: float

    def per(self, count: float) -> "Traffic":
        return Traffic(self.statements / count, self.wal_bytes / count)

    def without(self, a_second: "Traffic", seconds: float) -> "Traffic":
        return Traffic(self.statements - seconds * a_second.statements, self.wal_bytes - seconds * a_second.wal_bytes)


def of_pairs(stage: Stage, url: str, clients: list[list[str]], *, database_url: str, seconds: float) -> Traffic:
    """The traffic of one pair of requests. What the processes send and Postgres writes without requests is measured before, and
    subtracted. Of several stretches the least counts: what happens once in a while, such as deleting old rows, may fall into
    one of them, and into the requests not."""
    idle = []
    with set_meanwhile(stage, **_SETTINGS):
        for _ in range(_IDLE_STRETCHES):
            with _counted(stage, database_url) as count:
                time.sleep(seconds)
            idle.append(count.result.per(count.seconds))
        with _counted(stage, database_url) as busy:
            sent = load(stage, url, clients, seconds=seconds).sent
            stage.drain()
    return busy.result.without(least(idle), busy.seconds).per(sent / 2)


def least(stretches: list[Traffic]) -> Traffic:
    return Traffic(min(each.statements for each in stretches), min(each.wal_bytes for each in stretches))


def count_statements(lines: Iterator[str], database: str, *, without_backend: int) -> int:
    """The statements in Postgres's log that came from connections to the database, but for one of them."""
    found = (_STATEMENT.match(line) for line in lines)
    return sum(one is not None and one[2] == database and int(one[1]) != without_backend for one in found)


class _Count:
    """The count of one stretch of time, once that has ended."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.result = Traffic(0, 0)


@contextlib.contextmanager
def _counted(stage: Stage, database_url: str) -> Iterator[_Count]:
    count = _Count()
    log = stage.servers.postgres.log
    start, offset, lsn = time.monotonic(), log.stat().st_size, stage.value("SELECT pg_current_wal_flush_lsn()")
    yield count
    end = stage.value("SELECT pg_current_wal_flush_lsn()")
    count.seconds = time.monotonic() - start
    with open(log, errors="replace") as lines:
        lines.seek(offset)
        database = str(conninfo_to_dict(database_url)["dbname"])
        statements = count_statements(lines, database, without_backend=stage.conn.info.backend_pid)
    count.result = Traffic(statements, _wal_bytes(stage, lsn, end))


def _wal_bytes(stage: Stage, start: str, end: str) -> int:
    if start == end:
        return 0
    path = stage.servers.postgres.data / "pg_wal"
    output = stage.measure(binaries() / "pg_waldump", "--stats", f"--path={path}", f"--start={start}", f"--end={end}")
    if (total := _TOTAL.search(output)) is None:
        raise CommandError(f"pg_waldump shows no total: {' / '.join(output.strip().splitlines()[-3:])}")
    return int(total[1])


@contextlib.contextmanager
def set_meanwhile(stage: Stage, **settings: str) -> Iterator[None]:
    """Gives Postgres other settings in the meantime. Other connections read them before their next statement."""
    before = {name: stage.value(f"SHOW {name}") for name in settings}
    for name, value in settings.items():
        stage.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    _reload(stage, settings)
    try:
        yield
    finally:
        for name in settings:
            stage.sql(f"ALTER SYSTEM RESET {name}")
        _reload(stage, before)


def _reload(stage: Stage, expected: Mapping[str, str]) -> None:
    """Returns when the settings are in force."""
    stage.sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while any(stage.value(f"SHOW {name}") != value for name, value in expected.items()):
        if time.monotonic() > deadline:
            raise CommandError(f"Postgres has not read its settings again; see {stage.servers.postgres.log}.")
        time.sleep(0.02)
