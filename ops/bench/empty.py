"""`empty`: what an authorized request costs that does nothing, against an ASGI application that does nothing at all."""

from ops.bench.load import Load, load, request
from ops.bench.rounds import Comparison, Line, Plan, Side, alternate
from ops.bench.stage import Stage, free_port


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """GET /api/me: a verified token, the user's row, an answer from memory."""
    port = str(free_port())
    floor_url = f"http://127.0.0.1:{port}"
    bare = stage.child("floor", "api.floor", "--port", port, answers_at=floor_url)
    question = [[request("GET", "/api/me", token=stage.admin_token())]] * plan.clients
    loads: dict[str, list[Load]] = {stage.url: [], floor_url: []}

    def per_second(url: str) -> float:
        loads[url].append(load(stage, url, question, seconds=plan.seconds))
        return loads[url][-1].per_second

    stage.keep(bare)
    ours, floor = alternate(stage.say, "empty", plan, lambda: per_second(stage.url), lambda: per_second(floor_url))
    bare.stop()
    generator = min(one.cpu_microseconds for one in loads[floor_url])
    return [
        Line(
            "empty",
            Side("GET /api/me, authorized", "requests/s", ours),
            Side("a bare ASGI application under the same uvicorn (uvloop, httptools)", "requests/s", floor),
            notes={"clients": plan.clients, "generator_cpu_microseconds_per_request": round(generator, 1)},
        )
    ]


COMPARISON = Comparison("empty", "an authorized request that does nothing, against a bare ASGI application", measure)
