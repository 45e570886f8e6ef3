"""`growth`: what a list, and a start and its stop, cost with ten and a hundred times as many entries."""

from collections.abc import Callable, Sequence

from ops.bench import traffic
from ops.bench.comparisons.lists import months, question
from ops.bench.comparisons.start_stop import MS_A_PAIR, starts_and_stops
from ops.bench.installation import Installation
from ops.bench.load import Server
from ops.bench.rounds import Comparison, Line, Plan, Target, alternate
from ops.bench.stage import Stage

MONTHS = 8
TARGET = Target(1.1, at_least=False)
STEPS = ("1 to 10", "10 to 100")  # how much larger the firms are


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Three Stints on one Postgres and one RabbitMQ, with all entries, a tenth and a hundredth of them. Measured is CPU time,
    which depends less than the rate on what else the machine does. RabbitMQ, which knows nothing of entries, is left out.

    The WAL has no images of whole pages meanwhile. Postgres writes one of each page that changes for the first time after a
    checkpoint. A load of some seconds soon has changed all pages of a small database, and then writes no images, while at the
    rate of a firm nearly each change is the first of its page in a database of any size."""
    installations = [*stage.start_smaller(), stage]
    lines = _lines(stage, plan, "list", "ms of CPU", [_lists(one, plan) for one in installations], installations)
    with traffic.set_meanwhile(stage, full_page_writes="off"):
        pairs = [_pairs(one, plan) for one in installations]
        lines += _lines(stage, plan, "start-stop", MS_A_PAIR, pairs, installations)
    for smaller in installations[:-1]:
        smaller.close()
    return lines


def _lists(installation: Installation, plan: Plan) -> Server:
    chosen = months(installation, MONTHS)
    requests = [question(installation, one, enrich=False) for one in chosen]
    clients = [[*requests[number % len(requests) :], *requests[: number % len(requests)]] for number in range(plan.clients)]
    return Server(installation, installation.url, clients, installation.processes("api"))


def _pairs(installation: Installation, plan: Plan) -> Server:
    clients = starts_and_stops(installation, clients=plan.clients)
    processes = installation.processes("api", "relay", "workers")
    return Server(installation, installation.url, clients, processes, per=2, drain=installation.drain)


def _lines(
    stage: Stage, plan: Plan, name: str, unit: str, servers: Sequence[Server], installations: Sequence[Installation]
) -> list[Line]:
    sizes = [f"{one.entries:,} entries" for one in installations]

    def measured(server: Server) -> Callable[[], float]:
        def cost() -> float:
            server.per_second(plan.seconds)
            return server.cpu_sum()

        return cost

    alternate(stage.say, f"growth: {name}", plan, {size: measured(server) for size, server in zip(sizes, servers, strict=True)})
    what = "a list of one user's month" if name == "list" else "a start and its stop"
    sides = [server.costs(f"{what}, {size}", unit) for size, server in zip(sizes, servers, strict=True)]
    return [
        Line(f"growth, {name}, {step}", larger, smaller, TARGET)
        for step, smaller, larger in zip(STEPS, sides[:-1], sides[1:], strict=True)
    ]


COMPARISON = Comparison(
    "growth",
    "the cost of a list, and of a start and its stop, with ten and a hundred times as many entries",
    tuple(f"growth, {name}, {step}" for name in ("list", "start-stop") for step in STEPS),
    measure,
)
