"""The page of the queues: what waits, runs and fails in each, now and in the last hour, and the processes that handle it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from litestar import Response, get

from api.auth.auth import require_admin
from api.console.formats import Formats
from api.console.forms import FormModel, valid_query
from api.console.operations.charts import Chart, chart
from api.console.pages import fragment, is_htmx, page
from api.dependencies import ApiRequest
from schemas.outbox import heartbeats, queue_samples
from schemas.outbox.clocks import LIMIT_SECONDS
from schemas.outbox.heartbeats import Process
from schemas.outbox.queue_samples import QueueSample

LATE_SECONDS = 60.0  # as docs/operations.md advises for an alert
# What was done per minute is counted over at least this time, because workers add what they have handled each 5 seconds.
RATE_SECONDS, RATE_MOST_SECONDS = 55.0, 180.0


@dataclass(frozen=True)
class Figure:
    """A figure of a queue now, as text, and in the last hour."""

    now: str
    chart: Chart


@dataclass(frozen=True)
class QueueShown:
    """One queue as the page shows it. `workers`: how many processes with a heartbeat take messages of it."""

    sample: QueueSample
    waiting: Figure
    running: Figure
    done: Figure
    oldest: Figure
    is_late: bool
    workers: int


class QueuesQuery(FormModel):
    """`still`: the page does not refresh itself."""

    still: bool = False


@get("/console/queues", guards=[require_admin])
async def show_queues(request: ApiRequest) -> Response[bytes]:
    """The whole page; for htmx only what changes."""
    query = valid_query(request, QueuesQuery)
    show = Formats.of(request.headers.get("accept-language", ""), request.settings.stint_timezone)
    async with request.database.connection() as conn:
        samples = await queue_samples.last_hour(conn)
        present = await queue_samples.present(conn)
        processes = await heartbeats.processes(conn)
    alive = [process for process in processes if process.alive]
    values: dict[str, Any] = {
        "queues": [shown(sample, samples.get(sample.queue, []), alive, show) for sample in present],
        "now": present[0].at,
        "running": [process for process in processes if process.alive or process.frozen],
        "ended": [process for process in processes if not (process.alive or process.frozen)],
        "relays": [process for process in alive if process.kind == "relay"],
        "other_queues": sorted({difference for process in alive for difference in process.other_queues}),
        "clock_limit": LIMIT_SECONDS,
        "still": query.still,
    }
    if is_htmx(request):
        return fragment(request, "queues/live.html", **values)
    return page(request, "queues.html", **values)


def shown(present: QueueSample, samples: Sequence[QueueSample], alive: Sequence[Process], show: Formats) -> QueueShown:
    """The queue with its charts. `samples`: of the last hour."""
    hour = [*samples, present]
    done = rates(hour)

    def figure(label: str, value: Callable[[QueueSample], float], as_text: Callable[[float], str]) -> Figure:
        values = [(sample.at, value(sample)) for sample in hour]
        return Figure(as_text(value(present)), chart(f"{present.queue}: {label}", values, present.at, as_text))

    return QueueShown(
        present,
        waiting=figure("waiting", lambda sample: sample.waiting, show.number),
        running=figure("running", lambda sample: sample.running, show.number),
        done=figure("done per minute", lambda sample: done[sample.at], show.number),
        oldest=figure("oldest", lambda sample: sample.oldest_seconds, show.ago),
        is_late=present.oldest_seconds > LATE_SECONDS,
        workers=sum(present.queue in each.queues for each in alive if each.kind == "work" and each.takes_messages),
    )


def rates(hour: Sequence[QueueSample]) -> dict[object, float]:
    """By the time of a sample: how many messages per minute were done before it.

    They are counted since the latest sample that is old enough for that. 0: there is no such sample.
    """
    found: dict[object, float] = {}
    for number, sample in enumerate(hour):
        before = next((other for other in reversed(hour[:number]) if _seconds(other, sample) >= RATE_SECONDS), None)
        if before is None or _seconds(before, sample) > RATE_MOST_SECONDS:
            found[sample.at] = 0.0
        else:
            found[sample.at] = max(0, sample.handled - before.handled) / (_seconds(before, sample) / 60)
    return found


def _seconds(before: QueueSample, after: QueueSample) -> float:
    return (after.at - before.at) / timedelta(seconds=1)
