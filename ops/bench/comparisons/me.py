"""`me`: an authorized request that does nothing, against a bare ASGI application and the peer."""

from collections.abc import Callable

from ops.bench.load import Server, request
from ops.bench.rounds import Comparison, Line, Plan, Target, alternate
from ops.bench.stage import API_PROCESSES, Stage

WHAT = "GET /api/me of 100 users in turn: it verifies the token and answers what is known of the user"


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Each side has as many processes behind one socket as Stint's API."""
    questions = [request("GET", "/api/me", token=token) for token in stage.tokens]
    clients = [questions[number :: plan.clients] for number in range(plan.clients)]
    bare_url, bare = stage.start_bare()
    ours = Server(stage, stage.url, clients, stage.processes())
    asgi = Server(stage, bare_url, clients, stage.api_processes(bare))
    sides: dict[str, Callable[[], float]] = {
        "Stint": lambda: ours.per_second(plan.seconds),
        "bare ASGI": lambda: asgi.per_second(plan.seconds),
    }
    peer = Server(stage, stage.peer_url, clients, stage.peer_processes()) if stage.peer else None
    if peer:
        sides["the peer"] = lambda: peer.per_second(plan.seconds)
    figures = alternate(stage.say, "me", plan, sides)
    for child in bare:
        child.stop()
    stint = ours.rates(WHAT, figures["Stint"])
    notes = {"clients": plan.clients, "processes_of_each": API_PROCESSES}
    floor = "a bare ASGI application under the same uvicorn (uvloop, httptools), which answers every request alike"
    return [
        Line(
            "me, bare ASGI",
            stint,
            asgi.rates(floor, figures["bare ASGI"]),
            Target(0.30, at_least=True),
            notes | asgi.notes(),
        ),
        Line(
            "me, peer",
            stint,
            peer.rates("the same of the peer, which reads the user's row", figures["the peer"]) if peer else None,
            Target(2, at_least=True),
            notes | ours.notes(),
        ),
    ]


COMPARISON = Comparison(
    "me",
    "an authorized request that does nothing, against a bare ASGI application and the peer",
    ("me, bare ASGI", "me, peer"),
    measure,
    uses_peer=True,
)
