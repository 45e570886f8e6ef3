"""`./stint backup` and `./stint restore`, over databases without processes: what an archive contains, when there is none, and
what a restore changes and keeps."""

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from ops import cli
from ops.backup import restore
from ops.backup.places import Bucket
from ops.backup.servers import server_of
from ops.errors import CommandError
from schemas.identity import signing_keys
from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection
from schemas.postgres.migrate import migrate
from schemas.settings import Settings
from tests.outbox.rows import message, over
from tests.support import firm_rows
from tests.support.clusters import Cluster, clusters, other_version
from tests.support.fork_server import run
from tests.support.installation import CHECKOUT, SECRET_KEY, eventually, new_database, with_database

pytestmark = pytest.mark.processes

Commands = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """A database with a firm, and with keys. It is deleted at the end, with those that restores have left."""
    url = new_database(database_url)
    over(url, filled)
    yield url
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(database_url, autocommit=True) as conn:
        for (found,) in conn.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}%",)).fetchall():
            conn.execute(f'DROP DATABASE "{found}" WITH (FORCE)'.encode())


async def filled(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await firm_rows.entry(conn, rows, await firm_rows.bill(conn, rows))
    await firm_rows.connect_xero(conn)
    await signing_keys.ensure_key(conn, SECRET_KEY)
    link = "INSERT INTO sign_in_links VALUES ('x', %s, 1, now() + interval '1 hour')"
    await conn.execute(link, (rows.user,))
    await message(conn, "sent")
    await conn.execute("UPDATE messages SET sent_at = now() - interval '1 day'")
    assert await sync_epochs.adopt(conn)


@pytest.fixture
def stint(url: str, tmp_path: Path) -> Commands:
    def command(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        own = {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY} | environment
        return run(["ops.cli", *map(str, words), "--state", str(tmp_path / "state")], cwd=CHECKOUT, env=os.environ | own)

    return command


def done(result: "subprocess.CompletedProcess[str]", code: int = 0) -> str:
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def value(url: str, query: str) -> Any:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
        return row and row[0]


def databases(url: str) -> list[str]:
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url) as conn:
        return sorted(
            found for (found,) in conn.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}%",))
        )


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Somebody writes rows meanwhile."""
    ends = threading.Event()

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            while not ends.wait(0.01):
                conn.execute("INSERT INTO rate_limits VALUES (gen_random_uuid()::text, now())")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ends.set()
        writer.join()


def test_what_was_backed_up_comes_back_and_what_was_there_is_kept(url: str, stint: Commands, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with writing(url):
        said = done(stint("backup", place))
    [archive] = place.iterdir()
    assert str(archive) in said and "SECRET_KEY" in said
    assert {path.name: path.stat().st_mode & 0o777 for path in [archive, *archive.iterdir()]} == {
        archive.name: 0o700, "database.dump": 0o600, "manifest.json": 0o600,
    }  # fmt: skip
    assert value(url, "SELECT place FROM last_backup") == str(archive)
    manifest = json.loads((archive / "manifest.json").read_text())
    rows = {name: manifest["tables"][name] for name in ("time_entries", "signing_keys", "sign_in_links")}
    assert (rows, manifest["keys"]) == ({"time_entries": 1, "signing_keys": 1, "sign_in_links": 0}, True)
    before = (value(url, "SELECT access_version FROM users LIMIT 1"), value(url, "SELECT id FROM time_entries"))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DELETE FROM time_entries")
        refused = stint("restore", place)  # while somebody is connected
        assert "not empty" in done(refused, 1) and len(databases(url)) == 1
        checked = done(stint("restore", archive, "--check"))
        assert "as many as were backed up" in checked and len(databases(url)) == 1
        assert value(url, "SELECT count(*) FROM time_entries") == 0

        said = done(stint("restore", place, "--replace"))
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")

    [name, kept] = databases(url)
    assert kept.startswith(f"{name}_before_") and kept in said
    after = (value(url, "SELECT access_version FROM users LIMIT 1"), value(url, "SELECT id FROM time_entries"))
    assert after == (before[0] + 1000, before[1])
    assert value(url, "SELECT bool_and(sessions_after > now() - interval '1 minute') FROM users")
    assert value(url, "SELECT state FROM messages WHERE actor = 'recompute_bills'") == "ready"
    was_there = with_database(url, kept)
    assert value(was_there, "SELECT count(*) FROM time_entries") == 0
    assert value(was_there, "SELECT sync_epoch()") is None  # so that a rename back begins a new one
    assert done(stint("verify"))


def test_what_is_not_stints_is_never_replaced_unasked_and_never_deleted(
    url: str, database_url: str, stint: Commands, tmp_path: Path
) -> None:
    place, other = tmp_path / "backups", f"{conninfo_to_dict(url)['dbname']}x"
    done(stint("backup", place))
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {other}".encode())
    elsewhere = with_database(url, other)
    with psycopg.connect(elsewhere, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA crm; CREATE TABLE crm.leads AS SELECT 'Acme' AS name")  # public is empty
    assert "not empty" in done(stint("restore", place, DATABASE_URL=elsewhere), 1)
    done(stint("restore", place, "--replace", DATABASE_URL=elsewhere))
    [_, _, kept] = databases(url)
    assert value(with_database(url, kept), "SELECT name FROM crm.leads") == "Acme"


def test_what_is_filled_during_a_restore_is_not_replaced(
    url: str, stint: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example because somebody starts Stint on the empty database meanwhile."""
    done(stint("backup", tmp_path))
    empty = with_database(url, f"{conninfo_to_dict(url)['dbname']}x")
    fill = restore._fill

    async def fill_both(*arguments: Any) -> None:
        await fill(*arguments)
        with psycopg.connect(empty, autocommit=True) as conn:
            conn.execute("CREATE TABLE hours AS SELECT 1 AS hour")

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {conninfo_to_dict(empty)['dbname']}".encode())
    monkeypatch.setattr(restore, "_fill", fill_both)
    monkeypatch.setattr(restore, "interrupt_on_sigterm", lambda: None)
    monkeypatch.setattr(restore, "settings", lambda: Settings(database_url=empty, secret_key=SecretStr(SECRET_KEY)))
    with pytest.raises(CommandError, match="not empty"):
        restore.run(cli._parser().parse_args(["restore", str(tmp_path)]))
    assert value(empty, "SELECT hour FROM hours") == 1 and len(databases(url)) == 2


def test_sessions_that_may_not_be_ended_do_not_keep_others_from_being(url: str) -> None:
    """As a role that is no superuser: autovacuum, and the sessions of superusers, are not its own."""
    role = f"{conninfo_to_dict(url)['dbname']}_role"
    as_role = make_conninfo(url, user=role)

    async def end_sessions(own: "psycopg.Connection[Any]") -> None:
        async with server_of(as_role) as server, server._without_sessions(server.database):
            await asyncio.to_thread(eventually, lambda: is_ended(own), seconds=30)

    with psycopg.connect(url, autocommit=True) as others:
        others.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            with psycopg.connect(as_role, autocommit=True) as own:
                asyncio.run(end_sessions(own))
        finally:
            others.execute(f"DROP ROLE {role}".encode())


def test_who_may_not_replace_a_database_is_told_before_anything_is_restored(url: str) -> None:
    role = f"{conninfo_to_dict(url)['dbname']}_role"

    async def refuse(database_url: str) -> None:
        async with server_of(database_url) as server:
            await restore.refuse_foreign(server)

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN CREATEDB".encode())
        try:
            with pytest.raises(CommandError, match=f"does not own the database .* restore as {conn.info.user}"):
                asyncio.run(refuse(make_conninfo(url, user=role)))
            conn.execute(f"GRANT {conn.info.user} TO {role}".encode())
            asyncio.run(refuse(make_conninfo(url, user=role)))
        finally:
            conn.execute(f"DROP ROLE {role}".encode())


# has a new database until it is killed
RESTORING = """
import asyncio, sys
from ops.backup.servers import server_of

async def restore() -> None:
    async with server_of(sys.argv[1]) as server, server.new_database("restore_1"):
        print(flush=True)
        await asyncio.sleep(600)

asyncio.run(restore())
"""


def test_the_next_restore_deletes_what_a_killed_one_has_left_and_nothing_else(url: str) -> None:
    name = str(conninfo_to_dict(url)["dbname"])
    killed, of_a_person = f"{name}_restore_1", f"{name}_restore_2"

    async def restore_next() -> None:
        async with server_of(url) as server, server.new_database("restore_3"):
            pass

    def is_deleted_next() -> bool:
        asyncio.run(restore_next())
        return databases(url) == [name, of_a_person]

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {of_a_person}".encode())
    command = [sys.executable, "-P", "-c", RESTORING, url]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline()
            assert not is_deleted_next()  # it runs
        finally:
            process.kill()
    with psycopg.connect(with_database(url, killed)):  # as a pg_restore that goes on
        assert not is_deleted_next()
    eventually(is_deleted_next, seconds=30)  # once Postgres has noticed that its sessions have ended


def is_ended(conn: "psycopg.Connection[Any]") -> bool:
    with suppress(psycopg.OperationalError):
        conn.execute("SELECT 1")
    return conn.broken


def test_a_damaged_or_unfinished_archive_and_one_of_a_later_version_are_refused(
    url: str, stint: Commands, tmp_path: Path
) -> None:
    place = tmp_path / "backups"
    done(stint("backup", place))
    [archive] = place.iterdir()
    later, damaged, empty = (place / f"stint-2099010{number}T000000.000000Z" for number in (3, 2, 1))
    for copy in (later, damaged):
        shutil.copytree(archive, copy)
    empty.mkdir()
    manifest = json.loads((archive / "manifest.json").read_text())
    (later / "manifest.json").write_text(json.dumps(manifest | {"migrations": [*manifest["migrations"], "9999_later"]}))
    content = bytearray((damaged / "database.dump").read_bytes())
    content[-1] ^= 1
    (damaged / "database.dump").write_bytes(content)

    assert "9999_later" in done(stint("restore", place, "--check"), 1)
    assert "is damaged" in done(stint("restore", damaged, "--check"), 1)
    assert "no manifest.json" in done(stint("restore", empty, "--check"), 1)
    shutil.copytree(archive, tmp_path / "of monday")  # somebody has given it another name
    assert "0 rows break one" in done(stint("restore", tmp_path / "of monday", "--check"))
    fewer = manifest | {"tables": manifest["tables"] | {"time_entries": 2}}
    (later / "manifest.json").write_text(json.dumps(fewer))
    assert "time_entries: 1 instead of 2" in done(stint("restore", place, "--replace"), 1)
    assert len(databases(url)) == 1
    done(stint("backup", place, "--keep", 2))
    assert sorted(path.name for path in place.iterdir()) == sorted([damaged.name, empty.name, later.name])


def test_keys_come_back_under_this_installations_secret_key_or_not_at_all(url: str, stint: Commands, tmp_path: Path) -> None:
    place, passphrase, other = tmp_path / "backups", tmp_path / "passphrase", "another secret: 32 bytes long too"
    bare = tmp_path / "bare"
    passphrase.write_text("a passphrase that is long enough\n")
    for text, wrong in ((b"short", "shorter"), (b"no, only its beginning counts", "a comma"), (b"\xff" * 32, "no text")):
        bad = tmp_path / "bad"
        bad.write_bytes(text)
        assert wrong in done(stint("backup", place, "--passphrase-file", bad), 1)
    said = done(stint("backup", place, "--passphrase-file", passphrase))
    assert "SECRET_KEY" not in said
    bad.write_text("another passphrase as long")
    assert "not that of the backup" in done(stint("restore", place, "--check", "--passphrase-file", bad), 1)
    assert SECRET_KEY not in (next(place.iterdir()) / "manifest.json").read_text()

    assert "another SECRET_KEY" in done(stint("restore", place, "--check", SECRET_KEY=other), 1)
    done(stint("restore", place, "--replace", "--passphrase-file", passphrase, SECRET_KEY=other))
    assert "0 signing keys, 2 Xero tokens" in done(stint("rotate-keys", SECRET_KEY=other)), "one may be distrusted"
    done(stint("backup", bare))
    assert "without a passphrase" in done(stint("restore", bare, "--check", "--passphrase-file", passphrase), 1)
    said = done(stint("restore", bare, "--check", SECRET_KEY=SECRET_KEY), 1)
    assert "another SECRET_KEY" in said and "--passphrase-file" not in said

    done(stint("restore", place, "--replace", "--without-keys", SECRET_KEY=other))
    assert value(url, "SELECT (SELECT count(*) FROM signing_keys), tenant_id FROM xero_connection") == 0
    assert value(url, "SELECT tenant_id FROM xero_connection") is None
    done(stint("backup", bare, "--without-keys", "--keep", 1))
    assert b"access_token" in (next(bare.iterdir()) / "database.dump").read_bytes()
    said = done(stint("restore", bare, "--replace"))
    assert "connects Xero again" in said and value(url, "SELECT count(*) FROM xero_connection") == 1


def started(url: str, *words: object, before: Callable[[], object]) -> "subprocess.Popen[str]":
    """A command that runs `before` in its process first. Unlike a shell's, it can be interrupted in the background, too."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        before()

    environment = os.environ | {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.cli", *map(str, words)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def test_an_interrupted_backup_and_one_that_cannot_be_written_leave_nothing(url: str, stint: Commands, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with psycopg.connect(url) as conn:
        conn.execute("LOCK TABLE leads IN ACCESS EXCLUSIVE MODE")  # the backup waits for it
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        for number in (signal.SIGINT, signal.SIGTERM):
            with started(url, "backup", place, before=lambda: None) as process:
                eventually(lambda: value(url, waits), seconds=60)
                assert len(list(place.glob(".stint-unfinished-*"))) == 1
                process.send_signal(number)
                _, said = process.communicate(timeout=60)
            assert (process.returncode, list(place.iterdir())) == (130, []) and "nothing of it is kept" in said
            eventually(lambda: not value(url, waits), seconds=60)

    # as with a full disk, writing fails after some kilobytes
    with started(url, "backup", place, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, list(place.iterdir())) == (1, []) and "nothing of it is kept: pg_dump failed" in said

    assert value(url, "SELECT count(*) FROM last_backup") == 0
    leftover = place / ".stint-unfinished-x"
    leftover.mkdir()
    (leftover / "database.dump").write_text("of a backup that was killed")
    done(stint("backup", place))
    assert [path.name.startswith("stint-") for path in place.iterdir()] == [True]
    (tmp_path / "file").write_text("")
    assert "nothing of it is kept" in done(stint("backup", tmp_path / "file"), 1)


def test_a_bucket_of_s3_has_whole_archives_only(
    url: str, stint: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.server import ThreadedMotoServer  # a second

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
        aws = keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
        assert "cannot be used" in done(stint("backup", "s3://firm/backups", **aws), 1)
        client = boto3.client(
            "s3", region_name="eu-central-1", endpoint_url=aws["AWS_ENDPOINT_URL"], aws_access_key_id="test",
            aws_secret_access_key="test",
        )  # fmt: skip
        client.create_bucket(Bucket="firm", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        client.put_object(Bucket="firm", Key="backups/stint-20990101T000000.000000Z/database.dump", Body=b"without a manifest")
        for _ in range(2):
            done(stint("backup", "s3://firm/backups", "--keep", 1, **aws))
        keys_there = [item["Key"] for item in client.list_objects_v2(Bucket="firm")["Contents"]]
        assert sorted(key.rpartition("/")[2] for key in keys_there) == ["database.dump", "database.dump", "manifest.json"]
        assert "as many as were backed up" in done(stint("restore", "s3://firm/backups", "--check", **aws))

        for name, text in aws.items():
            monkeypatch.setenv(name, text)
        (tmp_path / "database.dump").write_text("a dump")
        (tmp_path / "manifest.json").symlink_to("nowhere")
        with pytest.raises(OSError):
            Bucket("s3://firm/backups").publish(tmp_path, "stint-20990102T000000.000000Z")
        assert [item["Key"] for item in client.list_objects_v2(Bucket="firm")["Contents"]] == keys_there
        client.close()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_role_with_a_password_that_may_create_databases_is_enough_and_postgres_is_a_database_too(tmp_path: Path) -> None:
    """As on a managed server; and as `./stint up` has it, whose database is called `postgres`."""
    with clusters() as made:
        one = made.keep(Cluster(made.home / "one").create())
        rules = one.data / "pg_hba.conf"
        rules.write_text(f"local all firm scram-sha-256\n{rules.read_text()}")
        one.start()
        with one.sql("postgres") as conn:
            conn.execute("CREATE ROLE firm LOGIN PASSWORD 'a/secret'")
            conn.execute("CREATE DATABASE firm OWNER firm")
        own = one.url.replace("stint@/stint?", "firm:a%2Fsecret@/firm?")
        for url in (one.url.replace("/stint?", "/postgres?"), own):
            asyncio.run(migrate(url))
            over(url, filled)
            words = {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}

            def stint(*command: str, environment: dict[str, str] = words) -> "subprocess.CompletedProcess[str]":
                state = ["--state", str(tmp_path / "state")]
                return run(["ops.cli", *command, *state], cwd=CHECKOUT, env=os.environ | environment)

            done(stint("backup", str(tmp_path / "backups")))
            if url == own:
                assert "CREATEDB" in done(stint("restore", str(tmp_path / "backups"), "--replace"), 1)
                with one.sql("postgres") as conn:
                    conn.execute("ALTER ROLE firm CREATEDB")
            with psycopg.connect(url):  # its session ends
                done(stint("restore", str(tmp_path / "backups"), "--replace"))
            assert value(url, "SELECT count(*) FROM time_entries") == 1


@pytest.mark.slow
def test_a_server_of_an_earlier_version_is_backed_up_and_restored(tmp_path: Path) -> None:
    """Its programs are not those of the latest version: that one's pg_restore begins with a setting that it does not know."""
    with clusters() as made:
        one = made.keep(Cluster(made.home / "one", programs=other_version(made.home)).create()).start().with_stint()
        over(one.url, filled)

        def stint(*command: str) -> "subprocess.CompletedProcess[str]":
            environment = os.environ | {"DATABASE_URL": one.url, "SECRET_KEY": SECRET_KEY}
            return run(["ops.cli", *command, "--state", str(tmp_path / "state")], cwd=CHECKOUT, env=environment)

        done(stint("backup", str(tmp_path / "backups")))
        done(stint("restore", str(tmp_path / "backups"), "--replace"))
        assert one.value("SELECT count(*) FROM time_entries") == 1
