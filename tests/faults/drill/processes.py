"""Breakages of Stint's own processes."""

import re
import signal

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json


def _continue(site: Site, finding: Json) -> None:
    """The command of the finding."""
    command = re.search(r"kill -CONT \d+", finding["do"])
    assert command is not None, finding
    site.shell(command[0])


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
]
