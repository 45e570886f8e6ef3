"""pg_dump and pg_restore: those of the wheel that contains two versions of Postgres, else the system's."""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ops.errors import CommandError
from ops.up.packages.postgres import earlier_binaries, runnable_binaries
from ops.up.processes import PLAIN_ENVIRONMENT, run

_TRANSACTION_TIMEOUT = 170_000  # the first version that has this setting, which later pg_restores begin with


async def run_program(
    name: str,
    database_url: str,
    arguments: Sequence[str | Path],
    *,
    server_version: int,
    every_second: Callable[[], object] = lambda: None,
) -> None:
    """Runs one of them on the database, whose server has that version (as libpq has it: 150004), and `every_second` meanwhile.
    Raises CommandError with its last lines when it fails. Cancelling this kills it."""
    program = await _find(name, server_version)
    parameters = conninfo_to_dict(database_url)
    # on a command line everybody on this machine could read the password
    secret = {"PGPASSWORD": str(password)} if (password := parameters.pop("password", None)) else {}
    kept = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "HOME"}
    where = f"--dbname={make_conninfo('', **parameters)}"
    running = asyncio.create_task(
        run([program, "--no-password", where, *arguments], environment=PLAIN_ENVIRONMENT | kept | secret)
    )
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=1)
            every_second()
    finally:
        running.cancel()
    await running


async def _find(name: str, server_version: int) -> Path:
    """The program for a server of that version: an earlier server accepts nothing from the latest pg_restore, and an earlier
    pg_restore reads no archive of the latest pg_dump."""
    try:
        latest = await runnable_binaries(None, program=name)
        return (earlier_binaries(latest) if server_version < _TRANSACTION_TIMEOUT else latest) / name
    except CommandError:
        if (found := shutil.which(name)) is None:
            raise CommandError(f"There is no {name} here: install Postgres's client programs.") from None
        return Path(found)
