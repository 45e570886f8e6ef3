"""Several API processes behind one socket: killed, restarted in turn, and their metrics."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx2
import pytest

from ops.errors import CommandError
from ops.up.api_processes import bind, directory_of_metrics, listen, passed_fd, run
from tests.support.fork_server import Process
from tests.support.installation import CHECKOUT, Installation, eventually, new_database
from tests.support.up import tree
from tests.sync.streams import metric

PROCESSES, CLIENTS = 2, 4
LIVE = 'stint_requests_total{method="GET",route="/health/live",status="200"}'


@pytest.fixture(scope="module")
def behind_one_socket(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`./stint api --processes 2`."""
    directory = tmp_path_factory.mktemp("api")
    installation = Installation(new_database(database_url), "amqp://nobody@127.0.0.1:1", directory)
    state = str(directory / "state")
    command = ["ops.cli", "api", "--state", state, "--processes", str(PROCESSES), "--port", str(installation.port)]
    log = directory / "api.log"
    supervisor = Process(command, cwd=CHECKOUT, env=os.environ | installation.environment, log=log)
    installation.processes["api"] = supervisor
    try:
        eventually(lambda: installation.answers("/health/live"), seconds=60, why=f"the log is {log}")
        started = "Application startup complete"
        eventually(lambda: log.read_text().count(started) == PROCESSES, seconds=60, why="all of them accept connections")
        yield installation
    finally:
        pids = api_pids(installation)
        installation.kill("api", signal.SIGTERM)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        installation.stop()


def api_pids(installation: Installation) -> list[int]:
    process = installation.processes["api"]
    assert process.pid is not None
    return tree(process.pid)[1:]


class Load:
    """Clients that send one request after another, each on a connection of its own, with pauses that leave the processors to
    the processes that start again."""

    PAUSE_SECONDS = 0.01

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered, self.refused, self.broken = 0, 0, 0
        self.over = threading.Event()

    def work(self) -> None:
        while not self.over.wait(self.PAUSE_SECONDS):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", "/health/live")
                assert connection.getresponse().status == 200
                self.answered += 1
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, HTTPException):
                self.broken += 1
            finally:
                connection.close()

    def goes_on(self, *, requests: int = 50) -> None:
        """Returns when that many further requests are answered."""
        before = self.answered
        eventually(lambda: self.answered >= before + requests, seconds=60, why="requests are answered")


@contextmanager
def load(installation: Installation) -> Iterator[Load]:
    running = Load(installation.port)
    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(running.work) for _ in range(CLIENTS)]
        try:
            running.goes_on()
            yield running
        finally:
            running.over.set()
    for future in futures:
        future.result()


def test_a_scrape_of_any_process_counts_the_requests_of_all(behind_one_socket: Installation) -> None:
    before = metric(behind_one_socket.url, LIVE)
    for number in range(1, 21):
        httpx2.get(f"{behind_one_socket.url}/health/live")
        if number % 4 == 0:
            expected = before + number  # a request is counted after its answer was sent
            eventually(lambda expected=expected: metric(behind_one_socket.url, LIVE) == expected)


def test_a_restart_in_turn_answers_every_request(behind_one_socket: Installation) -> None:
    before = set(api_pids(behind_one_socket))
    with load(behind_one_socket) as clients:
        behind_one_socket.processes["api"].send_signal(signal.SIGUSR2)
        eventually(lambda: not before & set(api_pids(behind_one_socket)), seconds=60, why="both are replaced")
        clients.goes_on()
    assert (clients.refused, clients.broken) == (0, 0)


def test_while_processes_are_killed_no_connection_is_refused_and_no_counter_decreases(
    behind_one_socket: Installation,
) -> None:
    eventually(lambda: len(api_pids(behind_one_socket)) == PROCESSES)
    counted = metric(behind_one_socket.url, LIVE)
    with load(behind_one_socket) as clients:
        for pid in api_pids(behind_one_socket):  # the second while the first one starts again
            os.kill(pid, signal.SIGKILL)
            clients.goes_on()
    assert clients.refused == 0
    in_the_killed = 2 * CLIENTS
    assert clients.broken <= in_the_killed, "only what a killed process had accepted already"
    scraped = [metric(behind_one_socket.url, LIVE) for _ in range(4)]
    assert scraped[0] >= counted + clients.answered - in_the_killed
    assert scraped == sorted(scraped)


def test_a_process_that_does_not_serve_is_told_although_another_one_answers(behind_one_socket: Installation) -> None:
    def too_few() -> float:
        return metric(behind_one_socket.url, 'stint_findings{section="API has too few processes"}')

    eventually(lambda: len(api_pids(behind_one_socket)) == PROCESSES and too_few() == 0)
    os.kill(api_pids(behind_one_socket)[0], signal.SIGKILL)
    eventually(lambda: too_few() == 1, seconds=5, why="the new one does not serve before it has imported everything")
    eventually(lambda: too_few() == 0)


def test_the_files_of_the_processes_are_where_nobody_deletes_them(
    behind_one_socket: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleaners of /tmp delete what is old, and two processes would have one place in the metrics."""
    [pid, *_] = api_pids(behind_one_socket)
    environment = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)
    assert Path(environment["PROMETHEUS_MULTIPROC_DIR"]).parent == behind_one_socket.directory / "state"

    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    with directory_of_metrics(tmp_path / "new" / "state") as found:
        assert found.is_dir() and found.parent == tmp_path / "new" / "state"
    assert not found.exists()
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path / 'run'}:/run/other")
    with directory_of_metrics(tmp_path / "unused") as found:
        assert found.parent == tmp_path / "run"
    assert not (tmp_path / "unused").exists()


def test_a_port_that_another_process_listens_on_is_refused_in_words() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:  # both may bind, but only one may listen
            listen(first)
            with pytest.raises(CommandError, match=f"Port {port} cannot be used .*--port"):
                listen(second)
        with pytest.raises(CommandError, match=f"Port {port} cannot be used .*--port"):
            bind("127.0.0.1", port)


def test_a_descriptor_that_is_no_listening_socket_is_refused_in_words(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket() as silent:
        for fd, why in ((file.fileno(), "is no socket"), (silent.fileno(), "does not listen"), (9_999, "is no socket"),
                        (-1, "is no socket"), (10**20, "is no socket")):  # fmt: skip
            with pytest.raises(CommandError, match=f"--fd {fd} .*{why}"):
                run(host="127.0.0.1", port=0, fd=fd, count=2, directory=tmp_path)


def test_the_socket_of_systemd_is_taken_by_the_process_that_it_is_for() -> None:
    own = str(os.getpid())
    assert passed_fd({"LISTEN_PID": own, "LISTEN_FDS": "1"}) == 3
    for other in ({}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": own}, {"LISTEN_PID": own, "LISTEN_FDS": "0"}):
        assert passed_fd(other) is None
    with pytest.raises(CommandError, match="2 sockets"):
        passed_fd({"LISTEN_PID": own, "LISTEN_FDS": "2"})
