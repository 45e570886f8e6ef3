"""Where archives are kept: a directory, or a bucket of S3 (boto3, with AWS's usual credentials and AWS_ENDPOINT_URL)."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ops.backup.archives import MANIFEST, is_name, sync_directory
from ops.errors import CommandError
from ops.files import try_lock

_UNFINISHED = ".stint-unfinished-"


class Place(Protocol):
    """Archives, by name. Only complete ones are there."""

    def names(self) -> list[str]:
        """The names of all archives, the oldest first."""

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A new directory for an archive, which nobody takes for one. It is deleted at the end."""

    def publish(self, unfinished: Path, name: str) -> str:
        """Makes it an archive of that name, and returns where that is. All of it is there, or none."""

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """A directory with the content of that archive."""

    def delete(self, name: str) -> None:
        """Deletes an archive."""


def place_of(text: str) -> Place:
    """The place that a command line names: a directory, or s3://BUCKET/PREFIX."""
    return Bucket(text) if text.startswith("s3://") else Directory(Path(os.path.abspath(os.path.expanduser(text))))


def split(text: str) -> tuple[str, str | None]:
    """The place and the name of an archive, if the text ends with one, or names a directory with one that was renamed."""
    if not text.startswith("s3://") and (path := Path(os.path.abspath(os.path.expanduser(text))) / MANIFEST).exists():
        return str(path.parent.parent), path.parent.name
    head, _, last = text.rstrip("/").rpartition("/")
    return (head or ".", last) if is_name(last) else (text, None)


class Directory:
    """A directory, with a directory for each archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(path.name for path in self.path.iterdir() if is_name(path.name) and (path / MANIFEST).exists())

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_leftovers()
        directory = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path))
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try_lock(descriptor)
            yield directory
        finally:
            os.close(descriptor)
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, unfinished: Path, name: str) -> str:
        target = self.path / name
        unfinished.rename(target)
        sync_directory(self.path)
        return str(target)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        yield self.path / name

    def delete(self, name: str) -> None:
        hidden = self.path / f"{_UNFINISHED}{name}"
        (self.path / name).rename(hidden)
        shutil.rmtree(hidden)

    def _remove_leftovers(self) -> None:
        """Deletes what backups have left that were killed. The kernel has released their locks."""
        for path in self.path.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if try_lock(descriptor):
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


class Bucket:
    """A bucket of S3, or a part of one. An archive is there once its manifest is, which is written last and deleted first.
    Archives are made in, and fetched into, the directory for temporary files (TMPDIR)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if not self._bucket:
            raise CommandError(f"{url} names no bucket: write s3://BUCKET/PREFIX.")

    def names(self) -> list[str]:
        return sorted(name for name, _, file in self._keys() if file == MANIFEST and is_name(name))

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="stint-backup-") as directory:
            yield Path(directory)

    def publish(self, unfinished: Path, name: str) -> str:
        files = sorted(unfinished.iterdir(), key=lambda file: file.name == MANIFEST)
        try:
            with self._client() as client:
                for file in files:
                    client.upload_file(str(file), self._bucket, f"{self._prefix}{name}/{file.name}")  # in parts, if it is large
        except BaseException:
            with contextlib.suppress(CommandError):
                self.delete(name)  # without its manifest nobody would
            raise
        return f"{self.url}/{name}"

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        with self.unfinished() as directory, self._client() as client:
            for of, key, file in self._keys():
                if of == name and "/" not in file:
                    client.download_file(self._bucket, key, str(directory / file))
            yield directory

    def delete(self, name: str) -> None:
        keys = [(file != MANIFEST, key) for of, key, file in self._keys() if of == name]
        with self._client() as client:
            for _, key in sorted(keys):
                client.delete_object(Bucket=self._bucket, Key=key)

    def _keys(self) -> list[tuple[str, str, str]]:
        """All objects: the name of the archive, the key, and the name of the file."""
        found = []
        with self._client() as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Contents", ()):
                    name, _, file = item["Key"].removeprefix(self._prefix).partition("/")
                    found.append((name, item["Key"], file))
        return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import boto3  # a quarter of a second
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = boto3.client("s3")
            with contextlib.closing(client):
                yield client
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise CommandError(f"{self.url} cannot be used: {error}") from error
