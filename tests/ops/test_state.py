"""A state directory: who is on it, and what commands beside `up` learn from it."""

import json
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.state import Run, State

RUN = Run("http://127.0.0.1:8000", "postgresql://own", "amqp://own", {"api": [1]})


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "AMQP_URL", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_command_learns_everything_from_a_running_up(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    with state.hold():
        key = state.make_secret_key()
        state.write_run(RUN)
        assert State(tmp_path / "new").environment() == {
            "DATABASE_URL": "postgresql://own",
            "AMQP_URL": "amqp://own",
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "SECRET_KEY": key,
        }


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://given")
    state = State(tmp_path)
    assert state.environment() == {}
    with state.hold():
        state.write_run(RUN)
        assert state.environment() == {"AMQP_URL": "amqp://own", "PUBLIC_URL": "http://127.0.0.1:8000"}


def test_a_command_has_the_days_of_the_up_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STINT_TIMEZONE", raising=False)
    state = State(tmp_path)
    with state.hold():
        state.write_settings({"STINT_TIMEZONE": "Europe/Berlin"})
        state.write_run(RUN)
        assert state.environment()["STINT_TIMEZONE"] == "Europe/Berlin"
        monkeypatch.setenv("STINT_TIMEZONE", "UTC")
        assert "STINT_TIMEZONE" not in state.environment()


def test_an_empty_variable_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    with pytest.raises(CommandError, match="DATABASE_URL is not set"):
        State(tmp_path).environment()


def test_the_run_json_of_a_killed_up_fools_nobody(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.write_run(RUN)
    assert state.running() is None
    with pytest.raises(CommandError, match=r"No Stint runs on .* start one with `./stint up --state"):
        state.environment()
    with state.hold():
        assert not (tmp_path / "run.json").exists()


def test_a_second_up_is_told_where_the_first_one_is(tmp_path: Path) -> None:
    with State(tmp_path).hold():
        State(tmp_path).write_run(RUN)
        with pytest.raises(CommandError, match=r"already runs on .* at http://127\.0\.0\.1:8000"), State(tmp_path).hold():
            pass
        assert State(tmp_path).running() == RUN


def test_a_command_during_the_start_is_told_to_wait(tmp_path: Path) -> None:
    with State(tmp_path).hold(), pytest.raises(CommandError, match="still starting"):
        State(tmp_path).environment()


def test_the_end_of_up_frees_the_state(tmp_path: Path) -> None:
    with State(tmp_path).hold():
        State(tmp_path).write_run(RUN)
    assert not (tmp_path / "run.json").exists()
    with State(tmp_path).hold():
        pass


def test_what_is_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    with state.hold():
        state.make_secret_key()
        state.write_run(RUN)
        for file in state.directory.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    assert state.directory.stat().st_mode & 0o077 == 0


def test_the_secret_key_stays(tmp_path: Path) -> None:
    key = State(tmp_path).make_secret_key()
    assert len(key) >= 32
    assert State(tmp_path).make_secret_key() == State(tmp_path).secret_key() == key


def test_run_json_has_exactly_the_keys_that_outside_programs_rely_on(tmp_path: Path) -> None:
    State(tmp_path).write_run(RUN)
    assert set(json.loads((tmp_path / "run.json").read_text())) == {"url", "database_url", "amqp_url", "pids"}


@pytest.mark.parametrize("beneath", ["a file", "a file/below"])
def test_a_directory_that_cannot_be_is_said_in_a_sentence(tmp_path: Path, beneath: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(CommandError, match="cannot be used"), State(tmp_path / beneath).hold():
        pass
