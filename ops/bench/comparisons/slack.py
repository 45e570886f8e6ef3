"""`slack`: the CPU time that commands and searches in Slack cost the API, and how long they take."""

import json
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from ops.bench.installation import Module, free_port
from ops.bench.load import Load, load, request
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.sandbox.slack import requests, stand_in
from ops.sandbox.slack.requests import SignedRequest
from ops.sandbox.slack.workspace import new_hook, new_trigger

AT_ONCE = (10, 50)  # numbers of clients
MEMBER, CHANNEL = "U0BENCH", "C0BENCH"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Case:
    """One kind of request, and the most milliseconds of CPU time that it should cost."""

    name: str
    what: str
    make: Callable[[str], SignedRequest]
    most_milliseconds: float


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Runs an API of its own beside `./stint up`, with a stand-in for Slack that is asked for nothing: the member's profile is
    cached."""
    slack_url = f"http://127.0.0.1:{free_port()}"
    api_url = f"http://127.0.0.1:{free_port()}"
    environment = stand_in.environment(slack_url)
    api = stage.child("slack-api", "api", "--port", _port(api_url), answers_at=api_url, environment=environment)
    stage.keep_running(api)
    stage.sql(
        "INSERT INTO slack_users (slack_id, email) VALUES (%s, %s) ON CONFLICT (slack_id) DO UPDATE SET fetched_at = now()",
        (MEMBER, stage.admin_email),
    )
    lines = [_measure(stage, plan, case, api, api_url, slack_url) for case in CASES]
    api.stop()
    return lines


def _measure(stage: Stage, plan: Plan, case: Case, api: Module, api_url: str, slack_url: str) -> Line:
    loads: dict[int, list[Load]] = {clients: [] for clients in AT_ONCE}

    def ours() -> float:
        """Milliseconds of CPU time per request."""
        question = _as_text(case.make(slack_url + new_hook()))  # now: Slack's signatures are valid for 5 minutes
        cpu, count = _cpu_seconds(api), _requests(api_url)
        for clients, measured in loads.items():
            measured.append(load(stage, api_url, [[question]] * clients, seconds=plan.seconds / len(loads)))
        return (_cpu_seconds(api) - cpu) / (_requests(api_url) - count) * 1000

    def baseline() -> float:
        question = request("GET", "/api/me", token=token)
        cpu, count = _cpu_seconds(api), _requests(api_url)
        load(stage, api_url, [[question]] * AT_ONCE[0], seconds=plan.seconds / len(loads))
        return (_cpu_seconds(api) - cpu) / (_requests(api_url) - count) * 1000

    token = stage.admin_token()
    figures = alternate(stage.say, case.name, plan, {"Stint": ours, "GET /api/me": baseline})
    notes = {
        f"p{percent}_milliseconds_at_{clients}_at_once": round(
            min(getattr(one, f"p{percent}_milliseconds") for one in measured), 1
        )
        for clients, measured in loads.items()
        for percent in (50, 99)
    }
    return Line(
        case.name,
        Side(case.what, "ms of CPU time", figures["Stint"]),
        Side("GET /api/me, authorized", "ms of CPU time", figures["GET /api/me"]),
        Target(case.most_milliseconds, at_least=False, of_ours=True),
        notes,
    )


def _command(text: str) -> Callable[[str], SignedRequest]:
    def make(response_url: str) -> SignedRequest:
        where = {"channel": CHANNEL, "trigger_id": new_trigger(), "response_url": response_url}
        return requests.command(user=MEMBER, text=text, **where)

    return make


def _search(_: str) -> SignedRequest:
    view = {"id": "V0BENCH", "callback_id": "create_task", "private_metadata": json.dumps({"channel_id": CHANNEL})}
    return requests.interaction("block_suggestion", user=MEMBER, action_id="customer", value="", block_id="b", view=view)


CASES = (
    Case("slack status", "/task status", _command("status"), 2),
    Case("slack list", "/task list", _command("list"), 3),
    Case("slack search", "a search for a customer in the form, without a text", _search, 3),
)


def _as_text(sent: SignedRequest) -> str:
    headers = "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
    body = sent.body.decode()
    return f"POST {sent.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(sent.body)}\r\n\r\n{body}"


def _cpu_seconds(api: Module) -> float:
    """The CPU time of the API's process so far."""
    assert api.process is not None
    with open(f"/proc/{api.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _requests(api_url: str) -> int:
    """How many requests the API has answered so far."""
    with urllib.request.urlopen(f"{api_url}/metrics", timeout=10) as answer:  # noqa: S310 - our own
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("stint_requests_total{")))


def _port(url: str) -> str:
    return url.rpartition(":")[2]


COMPARISON = Comparison(
    "slack",
    "CPU time of commands and searches in Slack, against an authorized request",
    tuple(case.name for case in CASES),
    measure,
)
