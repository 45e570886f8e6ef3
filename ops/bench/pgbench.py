"""pgbench, which comes with the private Postgres: statements with nothing of ours around them."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg.conninfo

from ops.bench.stage import Stage
from ops.errors import CommandError
from ops.postgres_package import runnable_binaries
from ops.processes import unprivileged_account

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_LITERAL = re.compile(r"'[^']*'")


def script(statements: Iterable[str]) -> str:
    """psycopg's statements as pgbench reads them: the same text, with `:name` for `%(name)s`. A colon inside a literal would
    be the beginning of a variable to pgbench, so it is written as an escape there; Postgres reads the same."""
    whole = ""
    for statement in statements:
        whole += _PARAMETER.sub(r":\1", _LITERAL.sub(_without_colon, statement)).replace("%%", "%").strip() + ";\n"
    return whole


def _without_colon(literal: re.Match[str]) -> str:
    if ":" not in literal[0]:
        return literal[0]
    return "E" + literal[0].replace("\\", r"\\").replace(":", r"\x3a")


class Pgbench:
    """One script, run as often as asked for."""

    def __init__(self, stage: Stage, name: str, text: str, parameters: dict[str, Any] | None = None) -> None:
        self._stage = stage
        self._file = stage.home / f"{name}.sql"
        self._file.write_text(text)
        self._parameters = parameters or {}

    def per_second(self, *, clients: int, seconds: int) -> float:
        """Transactions per second, by prepared statements over the same socket as ours."""
        given = psycopg.conninfo.conninfo_to_dict(self._stage.servers.database_url)
        argv: list[str | Path] = [
            _binaries() / "pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=1",
            f"--time={seconds}", f"--file={self._file}", f"--host={given['host']}", f"--username={given['user']}",
            *(f"--define={name}={value}" for name, value in self._parameters.items()), str(given["dbname"]),
        ]  # fmt: skip
        output = self._stage.measure(*argv)
        if (found := _TPS.search(output)) is None or "aborted" in output:
            raise CommandError(f"pgbench did not measure anything: {' / '.join(output.strip().splitlines()[-3:])}")
        return float(found[1])


def _binaries() -> Path:
    return asyncio.run(runnable_binaries(unprivileged_account()))
