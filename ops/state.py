"""A state directory: the data, secret key and logs of one installation, and the address of the `./stint up` that runs on it."""

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ops.errors import CommandError
from ops.files import private, try_lock, write_private

CHECKOUT = Path(__file__).resolve().parents[1]
DEFAULT = CHECKOUT / ".stint"

# From where boto3 takes AWS's credentials. They belong together: a command that has one of them has all of its own.
_AWS_CREDENTIALS = frozenset(
    {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
        "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
        "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """The content of `run.json`: how other programs reach a running `./stint up`."""

    url: str
    database_url: str
    amqp_url: str
    pids: Mapping[str, list[int]] = field(default_factory=dict)
    api_processes: int = 1  # how many there should be


class State:
    """The directory that `--state` names. Only `lock` creates it."""

    def __init__(self, directory: Path = DEFAULT) -> None:
        self.directory = Path(os.path.abspath(directory.expanduser()))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Creates the directory and locks it against any other `up`. Raises CommandError when one runs on it already."""
        with contextlib.ExitStack() as files:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = files.enter_context(open(self.directory / "lock", "a+", opener=private))
            except OSError as error:
                raise CommandError(f"The state directory cannot be used ({error}): name another with --state.") from error
            # Other commands test the lock by taking it for a moment, so a single failure proves nothing.
            deadline = time.monotonic() + 0.5
            while not try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise CommandError(self._already_running())
                time.sleep(0.02)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            self._remove_run()  # left by an `up` that was killed
            try:
                yield
            finally:
                self._remove_run()

    def pid(self) -> int | None:
        """The process of the `up` that runs or starts here, or None. The number that an ended one left is ignored."""
        while self._is_locked():
            if text := (self.directory / "lock").read_text().strip():
                return int(text)
            time.sleep(0.02)  # it has locked the file, and writes its number next
        return None

    def running(self) -> Run | None:
        """The `up` that runs now, or None. The file that a killed one left is ignored."""
        if not self._is_locked():
            return None
        return self._read_run()

    def write_run(self, run: Run) -> None:
        self._write_private("run.json", json.dumps(asdict(run), indent=2) + "\n")

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Stores the settings of the running `up`, secrets too, for other commands on this state."""
        self._write_private("settings.json", json.dumps(dict(settings), indent=2) + "\n")

    def _remove_run(self) -> None:
        for name in ("run.json", "settings.json", "asked"):
            (self.directory / name).unlink(missing_ok=True)

    def secret_key(self) -> str | None:
        """The secret key that `up` created here, or None."""
        try:
            return (self.directory / "secret_key").read_text().strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(f"The secret key of this state cannot be read: {error}.") from error

    def get_or_create_secret_key(self) -> str:
        """The secret key of this state; the first call creates it."""
        if key := self.secret_key():
            return key
        import secrets  # it takes a tenth of the time of a command that asks a running `up`

        key = secrets.token_urlsafe(48)
        self._write_private("secret_key", key + "\n")
        return key

    def environment(self, *, need: tuple[str, ...] = ("DATABASE_URL",)) -> dict[str, str]:
        """The settings of the running `up` that a command's own environment lacks; none, if that names another database: the
        command is about another installation then. Raises CommandError when one of `need` is in neither."""
        run = self.running()
        known: dict[str, str] = {}
        if run is not None and self._is_of(run):
            known = {"DATABASE_URL": run.database_url, "AMQP_URL": run.amqp_url, "PUBLIC_URL": run.url}
            if key := self.secret_key():
                known["SECRET_KEY"] = key
            known |= self._read_settings()
        lacking = {name: value for name, value in known.items() if _lacks(name, value)}
        if any(os.environ.get(name) for name in _AWS_CREDENTIALS):
            lacking = {name: value for name, value in lacking.items() if name not in _AWS_CREDENTIALS}
        for name in need:
            if not os.environ.get(name) and name not in lacking:
                raise CommandError(self._is_missing(name, run))
        return lacking

    def api_url(self) -> str | None:
        """Where this machine reaches the API of the installation that the command's environment names. PUBLIC_URL may be an
        address of a proxy, which this machine need not reach."""
        run = self.running()
        return run.url if run is not None and self._is_of(run) else os.environ.get("PUBLIC_URL")

    def own_run(self) -> Run | None:
        """The `up` that runs now, if the command's environment is about its installation, else None."""
        run = self.running()
        return run if run is not None and self._is_of(run) else None

    def own_setting(self, name: str) -> str | None:
        """The setting of the `up` that runs now, if the command's environment is about its installation and it is set there."""
        return self._read_settings().get(name) if self.own_run() is not None else None

    def refuse_unknown_secret_key(self) -> None:
        """Raises CommandError if the first key of SECRET_KEY, which encrypts, is none of the `up` that runs: that could not
        decrypt what a command encrypts with it."""
        first, *_ = os.environ.get("SECRET_KEY", "").split(",")
        known = self.own_setting("SECRET_KEY")
        if known is not None and first.strip() not in [key.strip() for key in known.split(",")]:
            raise CommandError(
                f"Nothing was changed: the Stint on {self.directory} does not know the first key of this shell's SECRET_KEY. "
                "Unset it here, or start Stint with it."
            )

    @staticmethod
    def _is_of(run: Run) -> bool:
        """Whether a command with this environment is about the installation that runs."""
        return (os.environ.get("DATABASE_URL") or run.database_url) == run.database_url

    def _is_missing(self, name: str, run: Run | None) -> str:
        if run is not None:
            return f"DATABASE_URL is another database than that of the Stint on {self.directory}: set {name} for it, too."
        if self._is_locked():
            return f"The Stint on {self.directory} is still starting: try again in a moment."
        start = "./stint up" if self.directory == DEFAULT else f"./stint up --state {shlex.quote(str(self.directory))}"
        return f"No Stint runs on {self.directory} and {name} is not set: start one with `{start}`, or set {name}."

    def _already_running(self) -> str:
        run = self._read_run()
        where = f"at {run.url}" if run else "and is still starting"
        return (
            f"A Stint already runs on {self.directory} {where}: "
            "use that one, stop it with Ctrl-C, or start another with --state and --port."
        )

    def _is_locked(self) -> bool:
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


def _lacks(name: str, value: str) -> bool:
    """Whether a command's own environment lacks this setting. An empty variable counts as absent, unless the empty value is
    what is missing: that of INTERNAL_CLIENT_IDS has a meaning."""
    return not os.environ.get(name) if value else name not in os.environ
