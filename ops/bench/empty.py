"""`empty`: the cost of an authorized request that does nothing, against an empty ASGI application."""

from ops.bench.load import Load, load, request
from ops.bench.rounds import Comparison, Line, Plan, Side, alternate
from ops.bench.stage import Stage, free_port


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """GET /api/me: it verifies a token and reads the user's row."""
    port = str(free_port())
    baseline_url = f"http://127.0.0.1:{port}"
    bare = stage.child("baseline", "api.http.bench_baseline", "--port", port, answers_at=baseline_url)
    question = [[request("GET", "/api/me", token=stage.admin_token())]] * plan.clients
    loads: dict[str, list[Load]] = {stage.url: [], baseline_url: []}

    def per_second(url: str) -> float:
        loads[url].append(load(stage, url, question, seconds=plan.seconds))
        return loads[url][-1].per_second

    stage.keep_running(bare)
    ours, baseline = alternate(stage.say, "empty", plan, lambda: per_second(stage.url), lambda: per_second(baseline_url))
    bare.stop()
    generator = min(one.cpu_microseconds for one in loads[baseline_url])
    return [
        Line(
            "empty",
            Side("GET /api/me, authorized", "requests/s", ours),
            Side("a bare ASGI application under the same uvicorn (uvloop, httptools)", "requests/s", baseline),
            notes={"clients": plan.clients, "generator_cpu_microseconds_per_request": round(generator, 1)},
        )
    ]


COMPARISON = Comparison("empty", "an authorized request that does nothing, against a bare ASGI application", measure)
