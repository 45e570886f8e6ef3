"""`./stint restore`: the database of an archive, made and checked beside the present one, which it then replaces at once."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ops.backup.archives import DUMP, Manifest, check_files, read_manifest
from ops.backup.corrections import correct, keys_of
from ops.backup.places import place_of, split
from ops.backup.programs import run_program
from ops.backup.run import count_rows, interrupt_on_sigterm, read_passphrase, without_limits
from ops.backup.servers import Server, server_of
from ops.errors import CommandError
from ops.progress import Update, progress
from ops.state import State
from ops.verify import INVARIANTS, verify
from schemas.postgres.connection import Connection, connect
from schemas.postgres.migrate import MIGRATIONS, migrate
from schemas.settings import Settings, long_hours, settings

MOST_JOBS = 4


def run(args: argparse.Namespace) -> int:
    """Restores the archive `args.source`, or the latest one there. With `args.check` it only tries to, and returns 1 if rows
    break an invariant."""
    interrupt_on_sigterm()
    if not args.check:
        State(args.state).refuse_unknown_secret_key()
    passphrase = read_passphrase(args.passphrase_file)
    where, name = split(args.source)
    place = place_of(where)
    if name is None:
        names = place.names()
        if not names:
            raise CommandError(f"There is no backup in {args.source}.")
        name = names[-1]
    with place.fetched(name) as directory:
        manifest = read_manifest(directory)
        _refuse_later(manifest)
        check_files(directory, manifest)
        print(f"{name}: its hashes are right", file=sys.stderr)
        known = keys_of(manifest, passphrase)
        return asyncio.run(_restore(args, directory, manifest, known))


def _refuse_later(manifest: Manifest) -> None:
    known = {path.stem for path in MIGRATIONS.glob("*.sql")}
    if later := sorted(set(manifest.migrations) - known):
        raise CommandError(
            f"A later version of Stint made this backup (its migration {later[-1]} is unknown here): restore it with that."
        )


async def _restore(args: argparse.Namespace, directory: Path, manifest: Manifest, known: Sequence[str]) -> int:
    """`known`: the secret keys of the archive, if a passphrase was given."""
    now = datetime.now(UTC)
    async with server_of(settings().database_url) as server:
        await _refuse_full(server, args)
        if not args.check:
            await refuse_foreign(server)
        async with server.new_database(f"restore_{now:%Y%m%dT%H%M%S}") as name:
            own = settings().model_copy(update={"database_url": server.url_of(name)})
            await _fill(own, directory, manifest)
            await correct(own, manifest, without_keys=args.without_keys, keep_sessions=args.keep_sessions, known=known)
            broken = await verify(own)
            _tell_of_check(manifest, broken)
            if args.check:
                return 1 if broken else 0
            people = await _people(own)
            await _refuse_full(server, args)  # it may have been filled meanwhile
            kept = await server.put_in_place(name, now)
            if kept is not None and await server.is_empty(kept):
                await server.drop(kept)
                kept = None
    _tell(server, kept, people, manifest, args)
    return 0


async def refuse_foreign(server: Server) -> None:
    """Raises CommandError if this role may not give the database another name, which it would learn only at the end."""
    if (owner := await server.foreign_owner()) is not None:
        raise CommandError(
            f"The role of DATABASE_URL does not own the database {server.database}, so it cannot replace it: restore as "
            f'{owner}, or give the role the rights of {owner} (GRANT "{owner}" TO …).'
        )


async def _refuse_full(server: Server, args: argparse.Namespace) -> None:
    if not (args.replace or args.check or await server.is_empty(server.database)):
        raise CommandError(
            f"The database {server.database} is not empty. --replace puts the backup in its place, and keeps it under "
            "another name; --check only tries the backup."
        )


async def _fill(own: Settings, directory: Path, manifest: Manifest) -> None:
    """Fills the new database, compares its rows with the manifest, and brings it up to this version."""
    jobs = f"--jobs={min(MOST_JOBS, os.cpu_count() or 1)}"
    with progress("restoring, in kB", total=manifest.database_bytes / 1000) as update:
        async with await connect(own) as conn:
            await without_limits(conn)
            growing = asyncio.create_task(_report_size(conn, update))
            try:
                options: list[str | Path] = ["--exit-on-error", "--no-owner", "--no-privileges", jobs, directory / DUMP]
                await run_program("pg_restore", own.database_url, options, server_version=conn.info.server_version)
            finally:
                growing.cancel()
    async with await connect(own) as conn:
        await without_limits(conn)
        found = await count_rows(conn)
    if wrong := [table for table in sorted(found | manifest.tables) if found.get(table) != manifest.tables.get(table)]:
        shown = ", ".join(f"{table}: {found.get(table)} instead of {manifest.tables.get(table)}" for table in wrong[:5])
        raise CommandError(f"The restored tables have other numbers of rows than the backup: {shown}. Nothing was replaced.")
    await migrate(own.database_url, long_hours=long_hours())


async def _report_size(conn: Connection, update: Update) -> None:
    while True:
        update(await conn.value("SELECT pg_database_size(current_database())") / 1000)
        await asyncio.sleep(1)


async def _people(own: Settings) -> int:
    async with await connect(own) as conn:
        found: int = await conn.value("SELECT count(*) FROM users WHERE revoked_at IS NULL")
        return found


def _tell_of_check(manifest: Manifest, broken: list[str]) -> None:
    for sentence in broken:
        print(f"BROKEN  {sentence}")
    rows = sum(manifest.tables.values())
    print(
        f"Restored as of {_shown(manifest)}: {rows:,} rows of {len(manifest.tables)} tables, as many as were backed up; "
        f"{len(INVARIANTS)} invariants were checked, {len(broken)} rows break one."
    )


def _shown(manifest: Manifest) -> str:
    return f"{manifest.made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _tell(server: Server, kept: str | None, people: int, manifest: Manifest, args: argparse.Namespace) -> None:
    print(f"The database {server.database} is that of {_shown(manifest)} now.")
    if kept is not None:
        print(f'What was there is kept as the database {kept}. To delete it: DROP DATABASE "{kept}".')
    if not args.keep_sessions:
        print("Everybody signs in again: sessions and tokens of before the restore are refused.")
    if not manifest.keys or args.without_keys:
        print("Without the keys of the backup: an admin connects Xero again.")
    print(f"People with access: {people}. Who was removed after the backup has to be removed again (./stint user list).")
