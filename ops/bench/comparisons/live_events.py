"""`events`: what many streams of live events cost one API process, while timers are started and stopped, against a bare ASGI
application that writes as much."""

import http.client
import json
import time
from itertools import chain, cycle, islice
from urllib.parse import urlsplit

from ops.bench.comparisons.start_stop import starts_and_stops
from ops.bench.cpu import Processes
from ops.bench.installation import Module, free_port
from ops.bench.load import request
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError

STREAMS = 1_667  # a third of 5,000: three processes have 5,000 together
CHANGES_PER_SECOND = 20
CORE = "of a core"


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """An API process of its own has all streams, and the API that is measured elsewhere makes the changes."""
    streams = max(100, round(STREAMS * plan.share))
    url = f"http://127.0.0.1:{free_port()}"
    api = stage.keep_running(stage.child("listened", "api", "--port", url.rpartition(":")[2], answers_at=url))
    bare_url, [bare] = stage.start_bare(processes=1)
    while not (api.is_ready() and bare.is_ready()):
        time.sleep(0.1)
    seconds = 3 * plan.seconds
    received: dict[str, float] = {}

    def share_of_a_core(side: str, at: str, process: Module) -> float:
        share, counts = _share_of_a_core(stage, at, process, streams, seconds=seconds)
        received[side] = round(counts["events"] / streams / seconds, 1)
        return share

    sides = {
        "Stint": lambda: share_of_a_core("ours", url, api),
        "bare ASGI": lambda: share_of_a_core("baseline", bare_url, bare),
    }
    figures = alternate(stage.say, "events", plan, sides)
    api.stop()
    bare.stop()
    what = (
        f"an API process with {streams:,} streams of internal users, while another makes {CHANGES_PER_SECOND} changes a second"
    )
    floor = "a bare ASGI application that writes about as much to as many streams, four times a second"
    return [
        Line(
            "events",
            Side(what, CORE, figures["Stint"]),
            Side(floor, CORE, figures["bare ASGI"]),
            Target(0.5, at_least=False, of_ours=True),
            {"streams": streams, "events_a_second_of_each": received},
        )
    ]


def _share_of_a_core(stage: Stage, url: str, process: Module, streams: int, *, seconds: float) -> tuple[float, dict[str, int]]:
    """CPU seconds a second of the process that has the streams, and what these have received."""
    parts = urlsplit(url)
    requests = [request("GET", "/api/events", token=token) for token in islice(cycle(stage.tokens), streams)]
    todo = {"host": parts.hostname, "port": parts.port, "requests": requests, "seconds": seconds + 1}
    file = stage.home / "listeners.json"
    file.write_text(json.dumps(todo))
    listeners = stage.child("listeners", "ops.bench.listeners", str(file))
    listeners.log.unlink(missing_ok=True)
    listeners.start()
    processes = Processes(lambda: {"api": process.pids})
    try:
        _wait_for(listeners, "all streams are open")
        before = processes.read()
        _change(stage, seconds=seconds)
        after = processes.read()
        _wait_for(listeners, '"closed"')
    finally:
        listeners.stop()
    spent = sum(after["api"].values()) - sum(before["api"].values())
    return spent / seconds, json.loads(listeners.log.read_text().splitlines()[-1])


def _change(stage: Stage, *, seconds: float) -> None:
    """Starts and stops timers at an even rate, over one connection."""
    connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
    start = time.monotonic()
    for number, line in enumerate(cycle(chain(*starts_and_stops(stage, clients=1)))):
        due = start + number / CHANGES_PER_SECOND
        if due >= start + seconds:
            break
        time.sleep(max(0, due - time.monotonic()))
        method, path, *_ = line.split()
        token = line.partition("Bearer ")[2].split()[0]
        connection.request(method, path, headers={"Authorization": f"Bearer {token}", "Content-Length": "0"})
        connection.getresponse().read()
    connection.close()


def _wait_for(child: Module, word: str) -> None:
    while word not in child.log.read_text():
        if not child.is_running() and word not in child.log.read_text():
            raise CommandError(f"the streams of live events have ended: {child.last_lines()}")
        time.sleep(0.05)


COMPARISON = Comparison(
    "events", "many streams of live events in one API process, against a bare ASGI application", ("events",), measure
)
