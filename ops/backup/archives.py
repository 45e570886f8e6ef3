"""An archive: a directory with `database.dump` of pg_dump and a `manifest.json`, which is written last and makes it valid."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ops.errors import CommandError
from ops.files import private

DUMP, MANIFEST = "database.dump", "manifest.json"
_CHUNK_BYTES = 1 << 20


class ArchivedFile(BaseModel):
    """A file of an archive."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an archive contains. `tables`: the rows of each table, all of one moment, `made_at` by Postgres's clock. `keys`:
    whether it has the encrypted signing keys and Xero's tokens. `secret_key`: SECRET_KEY, encrypted under the passphrase, if
    there was one."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    made_at: datetime
    server_version: str
    wal_position: str
    database_bytes: int
    migrations: list[str]
    tables: dict[str, int]
    keys: bool
    secret_key: str | None = None
    files: dict[str, ArchivedFile]


def name_at(made_at: datetime) -> str:
    """The name of the archive of that moment. Names sort by time."""
    return f"stint-{made_at.astimezone(UTC):%Y%m%dT%H%M%S.%f}Z"


def is_name(name: str) -> bool:
    """Whether a directory of that name is an archive, and not what a backup that was killed has left."""
    return name.startswith("stint-") and name.endswith("Z")


def described(file: Path) -> ArchivedFile:
    """The size and the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
    return ArchivedFile(bytes=file.stat().st_size, sha256=digest.hexdigest())


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes the manifest, and returns when it and the directory are on disk."""
    with open(directory / MANIFEST, "x", opener=private) as output:
        output.write(manifest.model_dump_json(indent=2) + "\n")
        output.flush()
        os.fsync(output.fileno())
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Returns when the names in the directory are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a complete archive. Raises CommandError for anything else."""
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CommandError(
            f"{directory} has no {MANIFEST}: it is no archive of ./stint backup, or an unfinished one."
        ) from None
    except ValidationError:
        raise CommandError(
            f"{directory / MANIFEST} cannot be read: a later version of Stint made it, or it is damaged."
        ) from None


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compares each file with its size and hash. Raises CommandError for the first that differs."""
    for name, expected in manifest.files.items():
        try:
            found = described(directory / name)
        except FileNotFoundError:
            raise CommandError(f"{directory} is damaged: it has no {name}. Use another backup.") from None
        if found != expected:
            raise CommandError(
                f"{directory} is damaged: {name} is not as it was written ({found.bytes:,} bytes, not {expected.bytes:,}). "
                "Use another backup."
            )
