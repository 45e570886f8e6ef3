"""Options, collection and the fixtures that most tests share. tests/support/servers.py starts real servers, once a run."""

import contextlib
import gc
import inspect
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from ops.errors import CommandError
from ops.up.processes import end_with_parent
from tests.support import chromium, servers
from tests.support.durations import beginning_of
from tests.support.exclusive import ExclusiveTests
from tests.support.first_imports import FirstImports
from tests.support.given import Given
from tests.support.installation import CHECKOUT, Installation, emptied, new_database
from tests.support.selection import is_common, selected
from tests.support.unit_tests import fixtures_of, is_unit

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from tests.support.schedule import Schedule

pytest_plugins = ["tests.support.apis"]

_run = contextlib.ExitStack()  # what the run holds until its end
_shared: dict[str, Installation] = {}  # `stint`, once a test has asked for it


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stint")
    group.addoption(
        "--all",
        action="store_true",
        help="run all tests: also those that start processes, each case, and the load, model and fault suites",
    )
    group.addoption("--browser", action="store_true", help="run only the tests in a browser; downloads Chromium")
    group.addoption("--keep", action="store_true", help="leave Postgres and RabbitMQ running for the next run with --keep")
    group.addoption("--stop", action="store_true", help="end the servers that --keep has left, and run nothing")
    group.addoption("--shuffle", type=int, metavar="SEED", help="modules, and the tests in each, in a random order")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.option.stop:
        return None
    print("stopped" if servers.stop(servers.KEPT) else "nothing to stop: no servers run in " + str(servers.KEPT))
    shutil.rmtree(servers.KEPT, ignore_errors=True)
    return 0


def pytest_configure(config: pytest.Config) -> None:
    config.option.common = config.workerinput["common"] if hasattr(config, "workerinput") else is_common(config)
    if config.option.collectonly:
        return
    limits = inspect.signature(httpx2.get).parameters["timeout"].default  # 5 s, which a busy machine may take
    limits.connect = limits.read = limits.write = limits.pool = 20
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        gc.disable()  # until all tests are collected: what that makes stays
    if hasattr(config, "workerinput"):
        end_with_parent(os.getppid())  # a worker of pytest ends with pytest, however that ends
        config.pluginmanager.register(ExclusiveTests(Path(os.environ["STINT_TEST_HOME"])))
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        config.pluginmanager.register(FirstImports(number, config.workerinput["workercount"]))
        return
    home = Path(tempfile.mkdtemp(prefix="stint-test-"))
    _run.callback(shutil.rmtree, home, ignore_errors=True)
    place = servers.KEPT if config.option.keep else home / "servers"
    os.environ["STINT_TEST_HOME"] = str(home)
    if config.option.all:
        os.environ["STINT_TEST_ALL"] = "1"
    os.environ["STINT_TEST_WORKERS"] = str(getattr(config.option, "numprocesses", None) or 0)
    os.environ[servers.VARIABLE] = str(place)
    try:
        _run.enter_context(servers.run_lock(place))
    except BlockingIOError as error:
        raise pytest.UsageError(f"--keep: {error}; run without --keep, or wait for it") from error
    (place / "workers").write_text(os.environ["STINT_TEST_WORKERS"])
    (place / "failure").unlink(missing_ok=True)
    if not config.option.keep:
        _run.callback(servers.end_processes_of, place)
        _run.callback(servers.stop, place)
    # Nobody here speaks TLS, and each client of httpx2 would read all of the world's certificates: 25 ms a time.
    no_certificates = home / "certificates"
    no_certificates.mkdir()
    os.environ["SSL_CERT_DIR"] = str(no_certificates)
    os.environ.pop("SSL_CERT_FILE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    node.workerinput["common"] = node.config.option.common  # a worker reads the command line for itself


def pytest_unconfigure() -> None:
    _run.close()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = selected(items, config)
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen
    for item in items:
        if is_unit(item):
            item.add_marker(pytest.mark.unit)
    if config.option.shuffle is not None:
        _shuffle(items, random.Random(config.option.shuffle))
    items.sort(key=lambda item: beginning_of(item.nodeid))  # stable: neighbours stay neighbours


def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "Schedule":
    from tests.support.schedule import Schedule  # imports xdist, which pytest without workers does not

    return Schedule(config, log, Path(os.environ["STINT_TEST_HOME"]))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """In each process that runs tests: what to run is known now."""
    if session.config.option.collectonly:
        return
    gc.collect()
    gc.freeze()  # the modules and tests stay until the end: no collection has to look at them again
    gc.enable()
    gc.set_threshold(20_000)  # a collection looks at what the tests before have left: in a long run, a sixth of the time
    runs_tests = hasattr(session.config, "workerinput") or not getattr(session.config.option, "numprocesses", None)
    if runs_tests and any(map(_needs_servers, session.items)):
        servers.launch()
    if runs_tests and any(item.get_closest_marker("browser") for item in session.items):
        _download_chromium(session.config)


def _download_chromium(config: pytest.Config) -> None:
    """Downloads it beside the tests, if it is missing: those that need it wait for it. The first worker of pytest prints the
    progress."""
    if getattr(config, "workerinput", {"workerid": "gw0"})["workerid"] == "gw0" and chromium.find() is None:
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            process = subprocess.Popen([sys.executable, "-P", "-m", "tests.support.chromium"], cwd=CHECKOUT)
        process.returncode = 0  # so that Python does not warn of a child that outlives us


def _needs_servers(item: pytest.Item) -> bool:
    return "database_url" in fixtures_of(item)


def _shuffle(items: list[pytest.Item], order: random.Random) -> None:
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    shuffled = list(modules.values())
    order.shuffle(shuffled)
    for tests in shuffled:
        order.shuffle(tests)
    items[:] = [item for tests in shuffled for item in tests]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of what the timeout of a test counts: the first start fetches RabbitMQ
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if _needs_servers(item):
        with contextlib.suppress(RuntimeError):  # the fixture raises it again, as an error of the test
            servers.addresses()
    if item.get_closest_marker("browser"):
        with contextlib.suppress(CommandError):  # the fixture raises it again, and the test is skipped
            chromium.find_or_download()
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.keep and not config.option.collectonly:
        terminalreporter.write_line(
            "Postgres and RabbitMQ keep running for the next `./stint test --keep`; `./stint test --stop` ends them."
        )


@pytest.fixture(scope="session")
def database_url() -> str:
    """Postgres, with the template that `new_database` clones."""
    return servers.addresses().database_url


@pytest.fixture(scope="session")
def amqp_url(database_url: str, worker_id: str) -> str:
    """A virtual host that only this worker of pytest uses."""
    return servers.addresses().amqp_urls[worker_id]


@pytest.fixture(scope="session")
def shared_stint(database_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running Stint, shared by the tests of one worker of pytest: none of them ends its processes."""
    installation = Installation(new_database(database_url), amqp_url, tmp_path_factory.mktemp("stint"))
    try:
        yield _shared.setdefault("stint", installation.start().wait_until_ready())
    finally:
        installation.stop()


@pytest.fixture(scope="session")
def stint(shared_stint: Installation) -> Installation:
    """The Stint that a test uses: the shared one, unless a folder or a module has another fixture of this name."""
    return shared_stint


@pytest.fixture(scope="module", autouse=True)
def people_leave() -> Iterator[None]:
    """After each module nobody has access to the shared database any more: otherwise each pillar that becomes inactive would
    send a mail to the people of all tests before."""
    yield
    if "stint" in _shared:
        _shared["stint"].rows("UPDATE users SET revoked_at = now() WHERE revoked_at IS NULL RETURNING id")


@pytest.fixture(scope="module")
def amqp_url_apart(database_url: str, worker_id: str) -> str:
    """For a Stint that the tests of one module share."""
    return emptied(servers.addresses().amqp_urls[f"{worker_id}-apart"])


@pytest.fixture(scope="module")
def stint_apart(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running Stint for one module, which overrides `stint` with it: its tests write thousands of rows, which would make the
    shared database slow for all tests after them; or they read all rows."""
    installation = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("apart"))
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def own(database_url: str, worker_id: str, tmp_path: Path) -> Iterator[Installation]:
    """A Stint for one test alone, with nothing started yet and its queues empty: its processes may be killed."""
    amqp_url = emptied(servers.addresses().amqp_urls[f"{worker_id}-own"])
    installation = Installation(new_database(database_url), amqp_url, tmp_path)
    try:
        yield installation
    finally:
        installation.close()


@pytest.fixture
def given(stint: Installation) -> Iterator[Given]:
    given = Given(stint)
    yield given
    given.close()
