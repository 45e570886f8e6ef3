"""A state directory: its lock, and the settings that other commands read from it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.state import Run, State

RUN = Run("http://127.0.0.1:8000", "postgresql://own", "amqp://own", {"api": [1]})


SECRETS = {
    "XERO_CLIENT_ID": "an app",
    "XERO_CLIENT_SECRET": "its secret",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SECRET_KEY": "a key that the environment of up has",
    "PUBLIC_URL": "https://stint.example.com",
}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of the user pool",
    "AWS_SECRET_ACCESS_KEY": "its secret",
    "AWS_SESSION_TOKEN": "its session",
    "AWS_PROFILE": "its profile",
}
OTHERS = {"STINT_TIMEZONE": "Europe/Berlin", "INTERNAL_CLIENT_IDS": "", "AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "AMQP_URL", *SECRETS, *CREDENTIALS, *OTHERS):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def running(directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[State]:
    """The state of a `./stint up` that has these settings, and a secret key."""
    state = State(directory)
    with state.lock():
        state.get_or_create_secret_key()
        state.write_settings(settings or {})
        state.write_run(RUN)
        yield state


def test_a_command_learns_everything_from_a_running_up(tmp_path: Path) -> None:
    with running(tmp_path / "new") as state:
        assert State(tmp_path / "new").environment() == {
            "DATABASE_URL": "postgresql://own",
            "AMQP_URL": "amqp://own",
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "SECRET_KEY": state.secret_key(),
        }


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://given")
    monkeypatch.setenv("STINT_TIMEZONE", "UTC")
    with running(tmp_path, OTHERS) as state:
        assert {"AMQP_URL", "STINT_TIMEZONE"}.isdisjoint(state.environment())


def test_a_command_has_the_days_of_the_up_beside_it(tmp_path: Path) -> None:
    with running(tmp_path, OTHERS) as state:
        assert state.environment()["STINT_TIMEZONE"] == "Europe/Berlin"


def test_a_command_has_all_settings_of_the_running_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "new", SECRETS | CREDENTIALS) as state:
        found = State(tmp_path / "new").environment()
        assert CREDENTIALS.items() <= found.items()
        assert SECRETS.items() <= found.items()
        assert state.api_url() == RUN.url  # PUBLIC_URL is an address of a proxy
        monkeypatch.setenv("DATABASE_URL", RUN.database_url)
        assert SECRETS.items() <= State(tmp_path / "new").environment().items()
        for file in state.directory.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    assert [file.name for file in state.directory.iterdir() if b"its secret" in file.read_bytes()] == []


OTHER_DATABASES = pytest.mark.parametrize(
    "database", ["postgresql://a-copy", "postgresql://own?sslmode=require", "postgresql://o"]
)


@OTHER_DATABASES
def test_a_command_about_another_database_gets_none_of_them(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    with running(tmp_path, SECRETS | CREDENTIALS | OTHERS) as state:
        assert state.environment() == {}
        assert state.api_url() is None
        with pytest.raises(CommandError, match=r"another database .* set AMQP_URL for it"):
            state.environment(need=("DATABASE_URL", "AMQP_URL"))
        monkeypatch.setenv("PUBLIC_URL", "http://127.0.0.1:9000")
        assert state.api_url() == "http://127.0.0.1:9000"
        monkeypatch.setenv("DATABASE_URL", RUN.database_url)
        assert state.environment()["SECRET_KEY"] == SECRETS["SECRET_KEY"]


@OTHER_DATABASES
def test_nor_while_the_up_starts_and_after_its_end(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then which database the secret key of the directory is for."""
    monkeypatch.setenv("DATABASE_URL", database)
    state = State(tmp_path)
    with state.lock():
        state.get_or_create_secret_key()
        state.write_settings(SECRETS)
        assert state.environment() == {}
    assert state.environment() == {}


@pytest.mark.parametrize("own", CREDENTIALS)
def test_credentials_for_aws_are_taken_as_one_set(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, CREDENTIALS | OTHERS) as state:
        monkeypatch.setenv(own, "")
        assert CREDENTIALS.items() <= state.environment().items()
        monkeypatch.setenv(own, "of this shell")
        assert CREDENTIALS.keys().isdisjoint(state.environment())
        assert state.environment()["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_an_empty_value_that_has_a_meaning_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, OTHERS) as state:
        assert state.environment()["INTERNAL_CLIENT_IDS"] == ""
        monkeypatch.setenv("INTERNAL_CLIENT_IDS", "web")
        assert "INTERNAL_CLIENT_IDS" not in state.environment()


def test_the_settings_that_a_killed_up_left_are_ignored_and_removed(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.write_settings(SECRETS)
    state.write_run(RUN)
    with pytest.raises(CommandError):
        state.environment()
    with state.lock():
        assert not (tmp_path / "settings.json").exists()


def test_an_empty_variable_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    with pytest.raises(CommandError, match="DATABASE_URL is not set"):
        State(tmp_path).environment()


def test_the_run_json_of_a_killed_up_is_ignored(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.write_run(RUN)
    assert state.running() is None
    with pytest.raises(CommandError, match=r"No Stint runs on .* start one with `./stint up --state"):
        state.environment()
    with state.lock():
        assert not (tmp_path / "run.json").exists()


def test_a_second_up_is_told_where_the_first_one_is(tmp_path: Path) -> None:
    with State(tmp_path).lock():
        State(tmp_path).write_run(RUN)
        with pytest.raises(CommandError, match=r"already runs on .* at http://127\.0\.0\.1:8000"), State(tmp_path).lock():
            pass
        assert State(tmp_path).running() == RUN


def test_a_command_during_the_start_is_told_to_wait(tmp_path: Path) -> None:
    with State(tmp_path).lock(), pytest.raises(CommandError, match="still starting"):
        State(tmp_path).environment()


def test_the_end_of_up_frees_the_state(tmp_path: Path) -> None:
    with State(tmp_path).lock():
        State(tmp_path).write_run(RUN)
    assert not (tmp_path / "run.json").exists()
    with State(tmp_path).lock():
        pass


def test_what_is_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    with state.lock():
        state.get_or_create_secret_key()
        state.write_run(RUN)
        for file in state.directory.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    assert state.directory.stat().st_mode & 0o077 == 0


def test_the_secret_key_stays(tmp_path: Path) -> None:
    key = State(tmp_path).get_or_create_secret_key()
    assert len(key) >= 32
    assert State(tmp_path).get_or_create_secret_key() == State(tmp_path).secret_key() == key


def test_run_json_has_exactly_the_keys_that_outside_programs_rely_on(tmp_path: Path) -> None:
    State(tmp_path).write_run(RUN)
    assert set(json.loads((tmp_path / "run.json").read_text())) == {"url", "database_url", "amqp_url", "pids", "api_processes"}


@pytest.mark.parametrize("beneath", ["a file", "a file/below"])
def test_a_directory_that_cannot_be_is_said_in_a_sentence(tmp_path: Path, beneath: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(CommandError, match="cannot be used"), State(tmp_path / beneath).lock():
        pass
