"""pgbench, which is part of the private Postgres: SQL without Stint around it."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg.conninfo

from ops.bench.stage import Stage
from ops.errors import CommandError
from ops.up.packages.postgres import runnable_binaries
from ops.up.processes import unprivileged_account

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_LITERAL = re.compile(r"'[^']*'")


def script(statements: Iterable[str]) -> str:
    """psycopg's statements in pgbench's syntax, with `:name` for `%(name)s`. A colon inside a literal would begin a variable
    for pgbench, so it becomes an escape sequence, which Postgres reads as a colon."""
    whole = ""
    for statement in statements:
        whole += _PARAMETER.sub(r":\1", _LITERAL.sub(_without_colon, statement)).replace("%%", "%").strip() + ";\n"
    return whole


def _without_colon(literal: re.Match[str]) -> str:
    if ":" not in literal[0]:
        return literal[0]
    return "E" + literal[0].replace("\\", r"\\").replace(":", r"\x3a")


class Pgbench:
    """One script that can be measured repeatedly."""

    def __init__(self, stage: Stage, name: str, text: str, parameters: dict[str, Any] | None = None) -> None:
        self._stage = stage
        self._file = stage.home / f"{name}.sql"
        self._file.write_text(text)
        self._parameters = parameters or {}

    def per_second(self, *, clients: int, seconds: int) -> float:
        """Transactions per second, with prepared statements over the same socket as Stint."""
        conninfo = psycopg.conninfo.conninfo_to_dict(self._stage.servers.database_url)
        argv: list[str | Path] = [
            binaries() / "pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=1",
            f"--time={seconds}", f"--file={self._file}", f"--host={conninfo['host']}", f"--username={conninfo['user']}",
            *(f"--define={name}={value}" for name, value in self._parameters.items()), str(conninfo["dbname"]),
        ]  # fmt: skip
        output = self._stage.measure(*argv)
        if (found := _TPS.search(output)) is None or "aborted" in output:
            raise CommandError(f"pgbench did not measure anything: {' / '.join(output.strip().splitlines()[-3:])}")
        return float(found[1])


def binaries() -> Path:
    return asyncio.run(runnable_binaries(unprivileged_account()))
