"""`./stint stop` and `./stint logs`."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import cli
from ops.running.answering import answer_on
from ops.running.asking import REPORT, TOKEN, Json, ask
from ops.running.logs import _readable
from ops.state import CHECKOUT, Run, State
from ops.up.log_view import LogReader
from tests.support.fork_server import run
from tests.support.up import WITHOUT_SERVERS

pytestmark = pytest.mark.processes

# Locks the directory as `./stint up` does, until a signal arrives.
LOCK = """
import signal, sys
from pathlib import Path
from ops.state import State
with State(Path(sys.argv[1])).lock():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("locked", flush=True)
    signal.pause()
"""


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has locked the state directory."""
    argv = [sys.executable, "-P", "-c", LOCK, str(tmp_path)]
    environment = WITHOUT_SERVERS | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def stop(state: Path) -> int:
    return cli.main(["stop", "--state", str(state), "--timeout", "20"])


def test_what_another_shell_has_started_is_stopped_and_awaited(
    tmp_path: Path, locked: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert State(tmp_path).pid() == locked.pid
    assert stop(tmp_path) == 0
    assert locked.wait(1) == 0
    asked, stopped = capsys.readouterr().out.splitlines()
    assert asked == f"Asked the Stint on {tmp_path} to stop: process {locked.pid}."
    assert stopped.startswith("It has stopped, after ")
    assert (tmp_path / "lock").read_text() == f"{locked.pid}\n"  # its number stays, and names nothing any more
    assert stop(tmp_path) == 0
    assert capsys.readouterr().out == f"No Stint runs on {tmp_path}: there is nothing to stop.\n"


def test_a_number_of_another_process_is_not_stopped(
    tmp_path: Path, locked: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """In another container, the number in the lock is that of a process of that container."""
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            for pid in (other.pid, 2**22 - 1):
                (tmp_path / "lock").write_text(f"{pid}\n")
                assert stop(tmp_path) == 1
                assert "runs in another container" in capsys.readouterr().err
            assert other.poll() is None and locked.poll() is None
        finally:
            other.kill()


def test_secrets_are_not_given_up_that_only_this_shell_cannot_decrypt(tmp_path: Path, locked: subprocess.Popen[bytes]) -> None:
    state, url = State(tmp_path), "postgresql://nobody@127.0.0.1:1/none"
    state.write_run(Run("http://127.0.0.1:1", url, "amqp://127.0.0.1:1"))
    state.write_settings({"SECRET_KEY": "the key of the Stint that runs"})
    words = ["ops.cli", "reset-secrets", "--yes", "--state", str(tmp_path)]
    refused = run(words, cwd=CHECKOUT, env=WITHOUT_SERVERS | {"SECRET_KEY": "a key of this shell, for another Stint"})
    assert refused.returncode == 1 and "has another SECRET_KEY than this shell" in refused.stderr
    tried = run(words, cwd=CHECKOUT, env=WITHOUT_SERVERS)
    assert tried.returncode == 1 and "another SECRET_KEY" not in tried.stderr  # there is no Postgres at that address


def test_nothing_is_encrypted_under_a_key_that_the_stint_that_runs_does_not_know(
    tmp_path: Path, locked: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(tmp_path)
    state.write_run(Run("http://127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/none", "amqp://127.0.0.1:1"))
    state.write_settings({"SECRET_KEY": "the present key, the old key"})
    monkeypatch.setattr("ops.backup.restore.interrupt_on_sigterm", lambda: None)
    for known in ("the present key", "the old key,the key of a backup"):
        monkeypatch.setenv("SECRET_KEY", known)
        state.refuse_unknown_secret_key()
    monkeypatch.setenv("SECRET_KEY", "a key of this shell,the present key")
    for words in (["rotate-keys"], ["restore", str(tmp_path)]):
        with monkeypatch.context() as patched:
            patched.setattr(os, "environ", dict(os.environ))  # which the command changes
            assert cli.main([*words, "--state", str(tmp_path)]) == 1
        assert "does not know the first key of this shell's SECRET_KEY" in capsys.readouterr().err


async def long_report() -> Json:
    return {"long": "x" * 1_000_000}


@pytest.mark.parametrize("name", ["short", "a directory whose name is longer than the path of a socket may be " * 3])
def test_an_up_is_asked_by_its_socket_also_in_a_directory_with_a_long_path(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.mkdir()

    async def asked() -> Json:
        async with await answer_on(directory, {REPORT: long_report}):
            return await asyncio.to_thread(ask, directory)

    assert asyncio.run(asked()) == asyncio.run(long_report())
    assert (directory / "asked").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError):
        ask(directory)  # nobody answers there any more


def test_an_up_that_cannot_tell_what_is_wrong_answers_nothing_and_nobody_waits(tmp_path: Path) -> None:
    async def failing() -> Json:
        raise RuntimeError("a fault of Stint's")

    async def asked() -> None:
        async with await answer_on(tmp_path, {REPORT: failing}), asyncio.timeout(30):
            await asyncio.to_thread(ask, tmp_path)

    with pytest.raises(ValueError):
        asyncio.run(asked())


def test_a_token_is_asked_of_the_up_that_runs_unless_this_shell_has_another_key(
    tmp_path: Path, locked: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert locked.poll() is None
    State(tmp_path).write_run(Run("http://127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/none", "amqp://127.0.0.1:1"))
    for name in ("DATABASE_URL", "SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    asked: list[Json] = []

    async def sign(**words: str | None) -> Json:
        asked.append(words)
        return {"token": "a.b.c"} if words["role"] == "none" else {"error": "visitor is not a role."}

    async def printed(role: str, customer: str | None = None) -> int:
        words = ["token", "--role", role, "--email", "jo@example.com", "--state", str(tmp_path)]
        async with await answer_on(tmp_path, {TOKEN: sign}):
            with monkeypatch.context() as patched:
                patched.setattr(os, "environ", dict(os.environ))  # which the command changes
                return await asyncio.to_thread(cli.main, [*words, *(["--customer", customer] if customer else [])])

    assert asyncio.run(printed("none", "7")) == 0 and capsys.readouterr().out == "a.b.c\n"
    assert asyncio.run(printed("visitor")) == 1 and capsys.readouterr() == ("", "stint: visitor is not a role.\n")
    assert asked == [
        {"role": role, "email": "jo@example.com", "customer": customer} for role, customer in (("none", "7"), ("visitor", None))
    ]
    monkeypatch.setenv("SECRET_KEY", "a key of this shell, for another Stint")
    assert asyncio.run(printed("none")) == 1 and len(asked) == 2, "it signs here, and there is no Postgres at that address"


def logs(state: Path, *words: str) -> int:
    return cli.main(["logs", "--state", str(state), *words])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A state directory with logs of three processes, whose lines alternate."""
    (tmp_path / "logs").mkdir()

    def line(second: int, message: str, **fields: str) -> str:
        return json.dumps({"level": "INFO", "message": message, "at": f"2026-03-02T09:00:{second:02}+00:00", **fields}) + "\n"

    (tmp_path / "logs/api-1.log").write_text(line(1, "one") + line(4, "four", path="/x"))
    (tmp_path / "logs/work-bills.log").write_text(line(3, "three", level="ERROR", exc_info="Trace\nOSError: gone\x1b[2J"))
    (tmp_path / "logs/postgres.log").write_text("2026-03-02 09:00:02.5 UTC [7] LOG:  two\n\tand more\n")
    return tmp_path


def test_logs_of_all_parts_are_in_order_and_readable(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs(written) == 0
    assert capsys.readouterr().out == (
        "api-1        | 2026-03-02T09:00:01 INFO one\n"
        "postgres     | 2026-03-02 09:00:02.5 UTC [7] LOG:  two\n"
        "postgres     | \tand more\n"
        "work-bills   | 2026-03-02T09:00:03 ERROR three\nTrace\nOSError: gone\\x1b[2J\n"
        "api-1        | 2026-03-02T09:00:04 INFO four path=/x\n"
    )
    assert logs(written, "-n", "1", "api", "--raw") == 0
    assert json.loads(capsys.readouterr().out)["message"] == "four"


def test_as_many_lines_are_shown_as_are_asked_for(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (written / "logs/relay.log").open("w") as log:
        log.writelines(f"{number} {'x' * 200}\n" for number in range(5_000))  # one megabyte
    for count in (4_000, 1, 5_000, 9_000):
        assert logs(written, "-n", str(count), "--raw", "relay") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(max(0, 5_000 - count), 5_000))


def test_parts_are_named_as_processes_or_as_their_kind(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs(written, "work", "postgres", "-n", "9") == 0
    assert {line.split(" ")[0] for line in capsys.readouterr().out.splitlines() if " | " in line} == {"work-bills", "postgres"}
    assert logs(written, "wrok") == 1
    assert capsys.readouterr().err == "stint: There is no log of wrok: did you mean work?\n"
    assert logs(written / "nowhere") == 1
    assert "There are no logs in" in capsys.readouterr().err


def test_what_follows_is_read_once_also_after_the_file_was_emptied(written: Path) -> None:
    file = written / "logs/api-1.log"
    reader = LogReader(file)
    assert len(reader.latest(9)) == 2
    with open(file, "a") as log:
        log.write("half a ")
        log.flush()
        assert reader.new_lines() == []
        log.write("line\n")
    assert reader.new_lines() == ["half a line"]
    file.write_text("new\n")
    assert (reader.new_lines(), reader.new_lines()) == (["new"], [])


def test_an_error_is_red_on_a_terminal_unless_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"level": "ERROR", "message": "lost", "at": "2026-03-02T09:00:01.123456+00:00"})
    plain = "2026-03-02T09:00:01.123 ERROR lost"
    assert _readable(line) == plain
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert _readable(line) == f"\033[31m{plain}\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert _readable(line) == plain


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_an_up_of_another_version_is_named_in_a_sentence(
    command: str, tmp_path: Path, locked: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert locked.poll() is None
    State(tmp_path).write_run(Run("http://127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/none", "amqp://127.0.0.1:1"))

    async def older() -> Json:
        return {"status": {"servers": {"Postgres": "ok"}, "queues": []}, "findings": [{"problem": "x"}]}

    async def asked() -> int:
        async with await answer_on(tmp_path, {REPORT: older}):
            return await asyncio.to_thread(cli.main, [command, "--state", str(tmp_path)])

    assert asyncio.run(asked()) == 1
    said = capsys.readouterr()
    assert said.out == "" and f"stint: The Stint on {tmp_path} is of another version than this command" in said.err
