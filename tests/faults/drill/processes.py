"""Breakages of Stint's own processes."""

import re
import signal

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.outbox import probe
from tests.support.given import Json
from tests.support.installation import CHECKOUT, eventually

HANDLERS = 4
MORE = "work:mail"  # one of two workers for mails


def _continue(site: Site, finding: Json) -> None:
    """The command of the finding."""
    command = re.search(r"kill -CONT \d+", finding["do"])
    assert command is not None, finding
    site.shell(command[0])


def _start_one_more(site: Site) -> None:
    site.stint.start(MORE)
    alive = "SELECT count(*) = 1 FROM heartbeats WHERE queues = '{mail}' AND seen_at > now() - interval '10 seconds'"
    eventually(lambda: site.stint.value(alive), seconds=60, why="it sends heartbeats")


def _hang(site: Site) -> None:
    """Four messages of a worker block in code that cannot be cancelled; each only once."""
    site.restart("work:bills", STINT_TEST_MODULE="tests.outbox.probe")
    keys = [f"hang {n}" for n in range(HANDLERS)]
    with site.stint.sql() as conn:
        if conn.execute("SELECT to_regclass('probe')").fetchone() == (None,):
            conn.execute(probe.TABLES.encode())
        for key in keys:
            conn.execute(
                "INSERT INTO probe_instructions VALUES (%s, 'block:600', 1) ON CONFLICT (key) DO UPDATE SET times = 1", (key,)
            )
        probe.enqueue(conn, *(probe.Probe(key=key) for key in keys))


def _kill_the_worker(site: Site, finding: Json) -> None:
    command = re.search(r"kill -9 \d+", finding["do"])
    assert command is not None, finding
    site.shell(command[0])
    site.stint.processes["work:bills"].wait(10)
    site.stint.start("work:bills")  # as `up` does, or systemd
    done = "SELECT count(*) = 0 FROM messages WHERE actor = 'probe' AND state <> 'done'"
    eventually(lambda: site.stint.value(done), seconds=60, why="the messages were delivered again")
    del site.stint.environment["STINT_TEST_MODULE"]
    site.restart("work:bills")


def _start_with_another_clock(site: Site) -> None:
    site.stint.new_processes = True
    shift = {"PYTHONPATH": str(CHECKOUT / "tests/support/shifted_clock"), "STINT_TEST_CLOCK": "600"}
    site.restart("work:bills", **shift)


def _set_the_clock(site: Site, _: Json) -> None:
    site.stint.new_processes = False
    for name in ("PYTHONPATH", "STINT_TEST_CLOCK"):
        del site.stint.environment[name]
    site.restart("work:bills")


BREAKAGES = [
    Breakage(
        "a worker for bills is frozen",
        "A process is frozen: the worker",
        "A process is frozen",
        "kill -CONT PID",
        lambda site: site.signal("work:bills", signal.SIGSTOP),
        _continue,
    ),
    Breakage(
        "the relay is frozen",
        "A process is frozen: the relay",
        "A process is frozen",
        "kill -CONT PID",
        lambda site: site.signal("relay", signal.SIGSTOP),
        _continue,
    ),
    Breakage(
        "the relay is dead",
        "No relay is alive",
        "No relay is alive",
        "./stint relay",
        lambda site: site.stint.kill("relay"),
        lambda site, _: site.stint.start("relay"),
    ),
    Breakage(
        "no worker for a queue",
        "No worker is alive for the queue timers",
        "No worker is alive for a queue",
        "./stint work --queues NAME",
        lambda site: site.stint.kill("work:timers"),
        lambda site, _: site.stint.start("work:timers"),
    ),
    Breakage(
        "a worker is killed, and others do its work",
        "Processes are gone from the host",
        "Processes are gone",
        "start it again there",
        lambda site: site.stint.kill(MORE),
        lambda site, _: site.stint.start(MORE),
        prepare=_start_one_more,
        tidy=lambda site: site.stint.kill(MORE, signal.SIGTERM),
    ),
    Breakage(
        "four handlers hang",
        "A handler runs longer than its deadline: probe",
        "A handler runs longer than its deadline",
        "kill -9 PID ends the worker now",
        _hang,
        _kill_the_worker,
    ),
    Breakage(
        "clocks are apart",
        "A clock is wrong: the work process",
        "A clock is wrong",
        "set the clock of that host",
        _start_with_another_clock,
        _set_the_clock,
    ),
]
