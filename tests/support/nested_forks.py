"""Processes of Stint that a fork of the fork server starts, such as those of `./stint up`: forks of that process, instead of
new Pythons that import everything again. They are its children and end with it, as those of `ops.up.processes.spawn` do."""

import contextlib
import gc
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from ops.files import private
from ops.up import processes
from ops.up.processes import end_with_parent

_PYTHON = [sys.executable, "-P", "-m"]
_spawn = processes.spawn


def start_modules_as_forks() -> None:
    """From here on, `python -m MODULE …` is a fork of this process if Stint starts it by `spawn`."""
    for name in ("ops.up.processes", "ops.bench.installation"):
        if name in sys.modules:
            setattr(sys.modules[name], "spawn", spawn)  # noqa: B010 - mypy accepts no assignment to a function


def spawn(argv: Sequence[str | Path], *, log: Path | IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
    """As `ops.up.processes.spawn`."""
    if list(argv[:3]) != _PYTHON or argv[3] == "uvicorn":  # which starts new Pythons, as a fork must not
        return _spawn(argv, log=log, **options)
    assert options.pop("account", None) is None, "Stint's own processes have the account of this one"
    opened = open(log, "ab", opener=private) if isinstance(log, Path) else contextlib.nullcontext(log)
    with opened as output:
        return _Fork([str(word) for word in argv[3:]], output.fileno(), **options)


class _Fork(subprocess.Popen[bytes]):
    """A child that was forked, with the methods of Popen."""

    def __init__(
        self,
        arguments: list[str],
        output: int,
        *,
        environment: Mapping[str, str],
        directory: Path,
        pass_fds: Sequence[int] = (),
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.args, self.returncode = arguments, None
        self.stdin = self.stdout = self.stderr = None
        self._waitpid_lock = threading.Lock()  # what Popen's own methods use
        self._child_created = True
        parent = os.getpid()
        # no signal between the fork and the reset of the handlers: this process would get it, by the socket that wakes its loop
        before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(lambda: _prepare(parent, death_signal, output, pass_fds, before), arguments, directory, environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become(prepare: Callable[[], None], arguments: list[str], directory: Path, environment: Mapping[str, str]) -> NoReturn:
    """Runs the module to its end, and ends this process."""
    code = 1
    try:
        prepare()
        _forget_what_the_parent_has_read()
        run_module(arguments, directory, environment)
        code = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _prepare(
    parent: int, death_signal: signal.Signals, output: int, pass_fds: Sequence[int], mask: set[int | signal.Signals]
) -> None:
    """What a new program would have: a session, descriptors and handlers of signals of its own."""
    os.setsid()
    end_with_parent(parent, death_signal)
    gc.freeze()  # what the parent has left is not collected here: its descriptors may be others now
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in pass_fds:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    sys.stdin = open(0, closefd=False)
    sys.stdout, sys.stderr = (open(each, "w", closefd=False, buffering=1, errors="backslashreplace") for each in (1, 2))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget_what_the_parent_has_read() -> None:
    """The settings of its environment. And `api` creates its metrics when it is imported, after it has taken its place among
    the API processes: here they were imported before, so they are created again."""
    from api.processes import metrics
    from schemas.settings import settings

    settings.cache_clear()
    take_place = metrics.take_place

    def take_place_and_create_metrics() -> None:
        take_place()
        for metric in list(REGISTRY._collector_to_names):
            if isinstance(metric, MetricWrapperBase):
                _create_again(metric)

    setattr(metrics, "take_place", take_place_and_create_metrics)  # noqa: B010


def _create_again(metric: MetricWrapperBase) -> None:
    if metric._is_parent():  # type: ignore[no-untyped-call]
        labels = list(metric._metrics)
        metric._metrics.clear()
        for values in labels:
            metric.labels(*values)
    else:
        metric._metric_init()  # type: ignore[no-untyped-call]


def run_module(arguments: list[str], directory: Path, environment: Mapping[str, str]) -> None:
    """Runs `python -m ARGUMENTS` in this process, with that environment."""
    os.chdir(directory)
    own = dict(environment)  # it may be os.environ itself
    os.environ.clear()
    os.environ.update(own)
    tempfile.tempdir = None  # it is read from the environment again
    sys.argv = arguments
    if not hasattr(sys.modules.get(arguments[0]), "__path__"):  # a package, which has its `__main__` run, is not replaced
        sys.modules.pop(arguments[0], None)  # a module that is imported already would make runpy write a warning
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
