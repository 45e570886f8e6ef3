"""`start-stop`: timers started and stopped by many users, against the peer; the same with Slack set up; what a pair sends to
Postgres, and what Postgres writes for it."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ops.bench import traffic
from ops.bench.installation import USERS, Installation, free_port
from ops.bench.load import Server, request
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import API_PROCESSES, Stage
from ops.sandbox.slack import stand_in

TASKS_PER_USER = 4
MS_A_PAIR = "ms of CPU a pair"
WHAT = "POST …/start and …/stop in turn by 100 users, each a request, while relay and workers make the entries"
COST = "CPU time of all processes for a start and its stop, until entry and bill are committed"
PEER = "the same of the peer, whose stop makes entry and bill in its own transaction"


@dataclass(frozen=True)
class Measured:
    """Stint and the peer under the same load, and their rates of all rounds."""

    ours: Server
    peer: Server | None
    figures: dict[str, list[float]]

    def rates(self, name: str) -> Line:
        baseline = self.peer.rates(PEER, self.figures["the peer"]) if self.peer else None
        notes = {"users": USERS, "processes_of_each_api": API_PROCESSES, **self.ours.notes()}
        return Line(name, self.ours.rates(WHAT, self.figures["Stint"]), baseline, Target(0.95, at_least=True), notes)

    def costs(self, name: str, what: str, most: float) -> Line:
        baseline = self.peer.costs(PEER, MS_A_PAIR) if self.peer else None
        return Line(name, self.ours.costs(what, MS_A_PAIR), baseline, Target(most, at_least=False))


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """The users start and stop one task after the other, over as many connections as there are clients. The CPU time is that of
    a pair, with all that follows from it."""
    clients = starts_and_stops(stage, clients=plan.clients)
    measured = _measure(stage, plan, "start-stop", clients)
    stage.say("start-stop: counting statements and bytes of WAL")
    ours = traffic.of_pairs(stage, stage.url, clients, database_url=stage.database_url, seconds=plan.seconds)
    peer = None
    if stage.peer:
        url = stage.peer.environment["DATABASE_URL"]
        peer = traffic.of_pairs(stage, stage.peer_url, clients, database_url=url, seconds=plan.seconds)
    trips, wal = "statements sent to Postgres for a start and its stop, by all processes", "WAL of a start and its stop"
    return [
        measured.rates("start-stop"),
        measured.costs("start-stop, CPU", COST, 1.3),
        Line(
            "start-stop, round trips",
            Side(trips, "round trips a pair", [ours.statements]),
            Side("the same of the peer", "round trips a pair", [peer.statements]) if peer else None,
            Target(6, at_least=False, of_ours=True),
        ),
        Line(
            "start-stop, WAL",
            Side(f"{wal}, without images of whole pages", "bytes a pair", [ours.wal_bytes]),
            Side("the same of the peer", "bytes a pair", [peer.wal_bytes]) if peer else None,
            Target(4_500, at_least=False, of_ours=True),
        ),
    ]


def measure_with_slack(stage: Stage, plan: Plan) -> list[Line]:
    """Stint runs with Slack set up, so that each timer may have to remind its owner. The stand-in for Slack does not count."""
    slack_url = f"http://127.0.0.1:{free_port()}"
    stage.say("start-stop-slack: starting Stint again with a stand-in for Slack")
    slack = stage.keep_running(
        stage.child("slack", "ops.sandbox.slack.stand_in", "--port", slack_url.rpartition(":")[2], "--app", stage.url)
    )
    before = dict(stage.up.environment)
    # what is sent at a time of day must not fall into a round
    quiet = {"STINT_REMINDERS": "off", "STINT_APPROVALS_TIME": "off"}
    stage.up.environment |= stand_in.environment(slack_url) | quiet
    stage.up.restart()
    stage.drain()
    measured = _measure(stage, plan, "start-stop-slack", starts_and_stops(stage, clients=plan.clients))
    stage.up.environment = before
    stage.up.restart()
    slack.stop()
    return [measured.costs("start-stop, Slack set up, CPU", f"{COST}, with Slack set up", 1.35)]


def starts_and_stops(installation: Installation, *, clients: int) -> list[list[str]]:
    """The requests of each client: all its users start a task, then all stop theirs, so that timers run for a moment; then the
    next task of each."""
    tasks = open_tasks(installation)
    return [
        [
            request("POST", f"/api/tasks/{tasks[(number + step) % len(tasks)]}/{verb}", token=installation.tokens[number])
            for step in range(TASKS_PER_USER)
            for verb in ("start", "stop")
            for number in range(client, USERS, clients)
        ]
        for client in range(clients)
    ]


def open_tasks(installation: Installation) -> list[UUID]:
    """An open task of each active customer."""
    return [
        task
        for (task,) in installation.sql(
            """
            SELECT DISTINCT ON (t.customer_id) t.id FROM tasks t JOIN customers c ON c.id = t.customer_id
            WHERE t.status <> 'archived' AND t.deleted_at IS NULL AND c.active AND c.deleted_at IS NULL
            ORDER BY t.customer_id, t.id
            """
        )
    ]


def _measure(stage: Stage, plan: Plan, name: str, clients: list[list[str]]) -> Measured:
    ours = Server(stage, stage.url, clients, stage.processes(), per=2, drain=stage.drain)
    sides: dict[str, Callable[[], float]] = {"Stint": lambda: ours.per_second(plan.seconds)}
    peer = Server(stage, stage.peer_url, clients, stage.peer_processes(), per=2) if stage.peer else None
    if peer:
        sides["the peer"] = lambda: peer.per_second(plan.seconds)
    return Measured(ours, peer, alternate(stage.say, name, plan, sides))


START_STOP = Comparison(
    "start-stop",
    "timers started and stopped by 100 users, against the peer",
    ("start-stop", "start-stop, CPU", "start-stop, round trips", "start-stop, WAL"),
    measure,
    uses_peer=True,
)
WITH_SLACK = Comparison(
    "start-stop-slack",
    "the same with Slack set up",
    ("start-stop, Slack set up, CPU",),
    measure_with_slack,
    uses_peer=True,
)
