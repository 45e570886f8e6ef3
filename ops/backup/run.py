"""`./stint backup`: an archive of the database as it was at one moment, while everything runs."""

import argparse
import asyncio
import signal
import sys
from datetime import UTC
from pathlib import Path
from typing import Any

import psycopg

from ops.backup.archives import DUMP, Manifest, described, name_at, write_manifest
from ops.backup.places import place_of
from ops.backup.programs import run_program
from ops.errors import CommandError
from ops.progress import progress
from schemas.encryption import encrypt
from schemas.postgres import backups
from schemas.postgres.connection import Connection, connect
from schemas.settings import Settings, settings

# What is good for one use only must not come back; it expires within minutes anyway.
USED_ONCE = ("sign_in_codes", "sign_in_links", "xero_oauth_states")
# What is encrypted under SECRET_KEY, and sessions. The row of xero_connection is made again empty.
KEYS = ("signing_keys", "xero_connection", "console_sessions")
KEY_CONTEXT = "backup: SECRET_KEY"  # what the encrypted SECRET_KEY is bound to
SHORTEST_PASSPHRASE = 16
LOCK_TIMEOUT = "60s"
LONGEST_SECONDS = 7 * 24 * 3600.0


def run(args: argparse.Namespace) -> int:
    """Makes an archive at `args.place`, and deletes older ones there beyond the latest `args.keep`."""
    interrupt_on_sigterm()
    place = place_of(args.place)
    try:
        passphrase = read_passphrase(args.passphrase_file)
        with place.unfinished() as directory:
            manifest = asyncio.run(dump(directory, settings(), without_keys=args.without_keys, passphrase=passphrase))
            where = place.publish(directory, name_at(manifest.made_at))
    except (CommandError, OSError) as error:
        raise CommandError(f"No backup was made, and nothing of it is kept: {error}") from error
    except KeyboardInterrupt:
        print("stint: no backup was made, and nothing of it is kept", file=sys.stderr)
        raise
    asyncio.run(_record(settings(), manifest, where))
    names = place.names()
    for name in names[: -args.keep] if args.keep else []:
        place.delete(name)
    _tell(where, manifest)
    return 0


def read_passphrase(file: Path | None) -> str | None:
    """The text of the file; None without a file. Raises CommandError for a text of less than 16 characters, and for one with a
    comma, which separates keys: only what precedes it would encrypt."""
    if file is None:
        return None
    try:
        text = file.read_text().strip()
    except UnicodeDecodeError:
        raise CommandError(f"The passphrase in {file} is no text: openssl rand -hex 32 makes one.") from None
    if "," in text:
        raise CommandError(f"The passphrase in {file} has a comma: use one without, such as openssl rand -hex 32 makes.")
    if len(text) < SHORTEST_PASSPHRASE:
        raise CommandError(
            f"The passphrase in {file} is shorter than {SHORTEST_PASSPHRASE} characters: openssl rand -hex 32 makes one."
        )
    return text


def interrupt_on_sigterm() -> None:
    """Lets SIGTERM, as systemd and `timeout` send it, end this command like Ctrl-C: it deletes what it has not finished."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


async def dump(directory: Path, settings: Settings, *, without_keys: bool = False, passphrase: str | None = None) -> Manifest:
    """Writes an archive into the directory. It contains every transaction that was committed before this was called."""
    async with await connect(settings) as conn:
        await without_limits(conn)
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = await conn.value("SELECT pg_export_snapshot()")
            seen = await _see(conn)
            left_out = {*USED_ONCE, *(KEYS if without_keys else ())}
            counts = {table: 0 if table in left_out else rows for table, rows in (await count_rows(conn)).items()}
            options = [
                "--format=custom",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_TIMEOUT}",
                f"--file={directory / DUMP}",
            ]
            options += [f"--exclude-table-data={table}" for table in sorted(left_out)]
            await _run_pg_dump(settings.database_url, options, directory / DUMP, server_version=conn.info.server_version)
    (directory / DUMP).chmod(0o600)
    key = settings.secret_key.get_secret_value()
    secret = passphrase and encrypt(key, secret_key=passphrase, context=KEY_CONTEXT)
    files = {DUMP: described(directory / DUMP)}
    manifest = Manifest(**seen, tables=counts, keys=not without_keys, secret_key=secret, files=files)
    write_manifest(directory, manifest)
    return manifest


async def _record(settings: Settings, manifest: Manifest, where: str) -> None:
    """Records the backup, for `./stint doctor` and the metrics. Where it cannot, as on a standby, it says so."""
    try:
        async with await connect(settings) as conn:
            await backups.record(conn, made_at=manifest.made_at, place=where)
    except (psycopg.Error, OSError) as error:
        text = (str(error) or type(error).__name__).splitlines()[0]  # a TimeoutError has no text
        print(f"stint: the backup was made, but ./stint doctor does not learn of it: {text}", file=sys.stderr)


async def _run_pg_dump(database_url: str, options: list[str], file: Path, *, server_version: int) -> None:
    with progress("writing the backup, in kB") as update:
        await run_program(
            "pg_dump",
            database_url,
            options,
            server_version=server_version,
            every_second=lambda: update(file.stat().st_size / 1000 if file.exists() else 0),
        )


async def without_limits(conn: Connection) -> None:
    """Lets this connection work, and wait, for as long as a large database takes."""
    conn.answer_timeout_seconds = LONGEST_SECONDS
    limits = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": LOCK_TIMEOUT}
    for name, value in limits.items():
        await conn.execute("SELECT set_config(%s, %s, false)", (name, value))


async def count_rows(conn: Connection) -> dict[str, int]:
    """The number of rows of each table of Stint."""
    tables = await conn.values(
        """
        SELECT relname::text FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY relname
        """
    )
    return {table: await conn.value(f'SELECT count(*) FROM "{table}"') for table in tables}


async def _see(conn: Connection) -> dict[str, Any]:
    """What the manifest says of the database, apart from the rows of its tables. Raises CommandError without Stint's tables."""
    if await conn.value("SELECT to_regclass('migrations') IS NULL"):
        raise CommandError("This database has no tables of Stint.")
    made_at, version, size, position = await conn.one(
        """
        SELECT clock_timestamp(), current_setting('server_version'), pg_database_size(current_database()),
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
        """
    )
    return {
        "made_at": made_at,
        "server_version": version,
        "database_bytes": size,
        "wal_position": position,
        "migrations": await conn.values("SELECT name::text FROM migrations ORDER BY name"),
    }


def _tell(where: str, manifest: Manifest) -> None:
    rows = sum(manifest.tables.values())
    size = sum(file.bytes for file in manifest.files.values())
    at = f"{manifest.made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    print(f"{where}: {rows:,} rows of {len(manifest.tables)} tables, {size / 1e6:,.1f} MB, as of {at}.")
    if not manifest.keys:
        print("Without keys: after a restore all people sign in again, and an admin connects Xero again.")
    elif manifest.secret_key is None:
        print("It does not contain SECRET_KEY, which its keys are encrypted under: keep that in another place.")
    print(f"Check it: ./stint restore {where} --check")
