"""A state directory: one installation's data, secret key and logs, and what is known of the `./stint up` on it."""

import contextlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ops.errors import CommandError
from ops.files import private, try_lock, write_private

CHECKOUT = Path(__file__).resolve().parents[1]
DEFAULT = CHECKOUT / ".stint"


@dataclass(frozen=True)
class Run:
    """What `run.json` tells other programs about a running `./stint up`."""

    url: str
    database_url: str
    amqp_url: str
    pids: Mapping[str, list[int]] = field(default_factory=dict)


class State:
    """The directory that `--state` names. Reading it makes nothing; `hold` makes it."""

    def __init__(self, directory: Path = DEFAULT) -> None:
        self.directory = Path(os.path.abspath(directory.expanduser()))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Makes the directory and keeps every other `up` off it; raises CommandError when one is on it already."""
        with contextlib.ExitStack() as held:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = held.enter_context(open(self.directory / "lock", "a+", opener=private))
            except OSError as error:
                raise CommandError(f"The state directory cannot be used ({error}): name another with --state.") from error
            # Others look whether it is held by holding it for a moment, so one refusal proves nothing.
            deadline = time.monotonic() + 0.5
            while not try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise CommandError(self._already_running())
                time.sleep(0.02)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            self.remove_run()  # of one that was killed
            try:
                yield
            finally:
                self.remove_run()

    def running(self) -> Run | None:
        """The `up` that runs now, None when there is none; the file of a killed one does not count."""
        if not self._is_held():
            return None
        return self._read_run()

    def write_run(self, run: Run) -> None:
        self._write_private("run.json", json.dumps(asdict(run), indent=2) + "\n")

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Keeps what the commands beside `up` must agree on with it."""
        self._write_private("settings.json", json.dumps(dict(settings), indent=2) + "\n")

    def remove_run(self) -> None:
        (self.directory / "run.json").unlink(missing_ok=True)

    def secret_key(self) -> str | None:
        """The key that `up` made here, if it made one."""
        try:
            return (self.directory / "secret_key").read_text().strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(f"The secret key of this state cannot be read: {error}.") from error

    def make_secret_key(self) -> str:
        """The key of this state, made at the first call."""
        if key := self.secret_key():
            return key
        key = secrets.token_urlsafe(48)
        self._write_private("secret_key", key + "\n")
        return key

    def environment(self, *, need: tuple[str, ...] = ("DATABASE_URL",)) -> dict[str, str]:
        """What a command beside `up` lacks in its own environment, which wins. Raises CommandError when one of `need`
        stands in neither."""
        run = self.running()
        known = {"SECRET_KEY": self.secret_key()}
        if run:
            known |= {"DATABASE_URL": run.database_url, "AMQP_URL": run.amqp_url, "PUBLIC_URL": run.url}
            known |= self._read_settings()
        lacking = {name: value for name, value in known.items() if value and not os.environ.get(name)}
        for name in need:
            if not os.environ.get(name) and name not in lacking:
                raise CommandError(self._nothing_runs(name))
        return lacking

    def _nothing_runs(self, name: str) -> str:
        if self._is_held():
            return f"The Stint on {self.directory} is still starting: try again in a moment."
        start = "./stint up" if self.directory == DEFAULT else f"./stint up --state {shlex.quote(str(self.directory))}"
        return f"No Stint runs on {self.directory} and {name} is not set: start one with `{start}`, or set {name}."

    def _already_running(self) -> str:
        run = self._read_run()
        where = f"at {run.url}" if run else "and is just starting"
        return (
            f"A Stint already runs on {self.directory} {where}: "
            "use that one, stop it with Ctrl-C, or start another with --state and --port."
        )

    def _is_held(self) -> bool:
        try:
            with open(self.directory / "lock") as lock:
                return not try_lock(lock.fileno(), shared=True)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CommandError(f"The state directory cannot be read: {error}.") from error

    def _read_run(self) -> Run | None:
        try:
            return Run(**json.loads((self.directory / "run.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _read_settings(self) -> dict[str, str]:
        try:
            return dict(json.loads((self.directory / "settings.json").read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _write_private(self, name: str, text: str) -> None:
        try:
            write_private(self.directory / name, text)
        except OSError as error:
            raise CommandError(f"The state directory cannot be written: {error}.") from error
