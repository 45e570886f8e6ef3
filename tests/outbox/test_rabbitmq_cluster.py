"""What relays are told of the cluster of RabbitMQ by its management API, and what the doctor says of it."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from actors.runtime import server_watch
from actors.runtime.server_watch import ClusterState
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.masking import Redactor
from schemas.outbox.heartbeats import Process
from schemas.rabbitmq import management
from schemas.rabbitmq.management import API, NODE, PARTITION, REPLICA, Node, Queue, found, problems
from schemas.settings import Settings
from tests.support.http_answers import Answers, answering
from tests.support.installation import SECRET_KEY
from tests.support.silent import silent_server

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ABC = [Node(name=name, running=True) for name in "abc"]


def quorum(members: str, online: str | None = None, name: str = "timers") -> Queue:
    return Queue(name=name, type="quorum", members=list(members), online=list(members if online is None else online))


def test_a_whole_cluster_has_no_problem() -> None:
    assert found(ABC, [quorum("abc"), Queue(name="mail", type="classic")]) == {}
    assert found(ABC[:1], [quorum("a")]) == found(ABC[:2], [quorum("ab")]) == {}, "it has as many replicas as nodes"
    five = [*ABC, Node(name="d", running=True), Node(name="e", running=True)]
    assert found(five, [quorum("bde")]) == {}, "three are enough"


def test_a_node_that_is_down_is_named_once_and_not_with_each_queue() -> None:
    nodes = [*ABC[:2], Node(name="c", running=False)]
    assert found(nodes, [quorum("abc", "ab"), quorum("abc", "ab", "bills")]) == {NODE: "down: c"}


def test_queues_with_too_few_replicas_are_named() -> None:
    assert found(ABC, [quorum("ab"), quorum("abc", name="bills")]) == {REPLICA: "missing: timers is on a, b alone"}
    # a node that was removed from the cluster is still in the list of some versions
    assert found([*ABC[:2], Node(name="d", running=True)], [quorum("abc", "ab")]) == {
        REPLICA: "missing: timers is on a, b alone"
    }
    many = [quorum("ab", name=f"q{number}") for number in range(7)]
    assert found(ABC, many)[REPLICA].endswith("q4 is on a, b; and 2 more queues alone")


def test_a_replica_that_is_offline_on_a_node_that_runs_is_named() -> None:
    assert found(ABC, [quorum("abc", "ab"), quorum("abc", name="bills")]) == {REPLICA: "offline: timers on c"}


def test_a_partition_is_named() -> None:
    nodes = [Node(name="a", running=True, partitions=["c", "b"]), Node(name="b", running=True)]
    assert found(nodes, [quorum("ab")]) == {PARTITION: "apart: a without b, c"}


def of(server: Answers) -> str:
    return server.url.replace("http://", "http://monitor:of-monitor@")


def test_the_first_node_that_answers_tells_of_all() -> None:
    with answering() as server, silent_server() as silent:
        server.body = json.dumps([{"name": "a", "running": True}, {"name": "b", "running": False, "more": 1}]).encode()
        refusing = "http://monitor:of-monitor@127.0.0.1:1"
        assert asyncio.run(problems(f"{refusing}, {of(server)}", "/")) == {NODE: "down: b"}
        assert [path.partition("?")[0] for path, _ in server.requests] == ["/api/nodes", "/api/queues/%2F"]
        assert {headers["authorization"] for _, headers in server.requests} == {"Basic bW9uaXRvcjpvZi1tb25pdG9y"}
        assert not silent.accepted


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (
            401,
            b"{}",
            "refused: {}: it refuses the password, or the user lacks the tag monitoring or a permission at the virtual host",
        ),
        (404, b"{}", "unusable: {}: it answers 404"),
        (302, b"", "unusable: {}: it answers 302"),
        (200, b"[", "unusable: {}: its answer is not that of RabbitMQ's management API"),
        (200, b'[{"name": 1}]', "unusable: {}: its answer is not that of RabbitMQ's management API"),
        (200, b"[" * 1_001, "unusable: {}: its answer is longer than 1,000 bytes"),
    ],
)
def test_an_api_that_tells_nothing_is_a_problem_with_its_cause(
    status: int, body: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "MOST_BYTES", 1_000)
    with answering() as server:
        server.status, server.body = status, body
        assert asyncio.run(problems(of(server), "/")) == {API: problem.format(server.url.removeprefix("http://"))}


def test_an_api_without_an_answer_is_a_problem_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "SECONDS", 0.5)
    with silent_server() as silent, answering() as slow:
        slow.body, slow.pause_seconds = b"[" * 1_000, 0.01
        urls = f"http://m:of-monitor@127.0.0.1:{silent.port},{of(slow)},http://m:of-monitor@127.0.0.1:1"
        places = [f"127.0.0.1:{silent.port}", slow.url.removeprefix("http://"), "127.0.0.1:1"]
        told = asyncio.run(problems(urls, "/"))[API]
    assert told == (
        f"unreachable: {places[0]}: no answer in time; {places[1]}: no answer in time; {places[2]}: Connection refused"
    )


def settings(url: str | None) -> Settings:
    return Settings.model_validate(
        {
            "database_url": "postgresql://x@127.0.0.1/x", "amqp_url": "amqp://127.0.0.1/of%2Fstint", "secret_key": SECRET_KEY,
            "rabbitmq_api_url": url,
        }
    )  # fmt: skip


def test_a_relay_asks_again_and_again_for_the_virtual_host_of_amqp_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "CLUSTER_SECONDS", 0.01)
    state = ClusterState()

    async def watch(server: Answers) -> None:
        watching = asyncio.create_task(server_watch.watch_cluster(settings(of(server)), state))
        async with asyncio.timeout(20):
            for status, expected in ((500, {API}), (200, set())):
                server.status = status
                while set(state.problems) != expected:  # noqa: ASYNC110 - as the relay's heartbeat reads it
                    await asyncio.sleep(0.01)
        watching.cancel()

    with answering() as server:
        server.body = b"[]"
        asyncio.run(watch(server))
        assert server.requests[-1][0].startswith("/api/queues/of%2Fstint?")
    asyncio.run(server_watch.watch_cluster(settings(None), state))  # it returns


@pytest.mark.parametrize(
    "url",
    ["rabbit:15672", "ftp://u:secret-word@h", "http://h:15672", "http://u@h", "http://u:secret-word@h:port", "http://u:x@h,"],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="each URL must be like") as refused:
        settings(url)
    assert "secret-word" not in str(refused.value)


def test_the_passwords_of_all_urls_are_masked() -> None:
    known = settings("https://m:password-of-a@a:15671,https://m:password-of-b@b:15671")
    assert "password-of" not in Redactor(known).text("it was password-of-a, then password-of-b")


def relay(**reported: str) -> Process:
    problems = {f"{name.replace('_', ' ')} of RabbitMQ": text for name, text in reported.items()}
    return Process(process="a:1", kind="relay", queues=[], started_at=AT, seen_at=AT, alive=True, problems=problems)


@pytest.mark.parametrize(
    ("reported", "what", "cure"),
    [
        ({"partition": "apart: a without b"}, "RabbitMQ is partitioned: a without b.", "restore the network"),
        ({"node": "down: c"}, "A node of RabbitMQ is down for the others: c.", "start RabbitMQ there"),
        (
            {"replica": "missing: timers is on a alone"},
            "Queues of RabbitMQ lack replicas: timers is on a alone.",
            "grow NODE all",
        ),
        ({"replica": "offline: timers on c"}, "A replica of a queue of RabbitMQ is offline: timers on c.", "restart RabbitMQ"),
        (
            {"management_API": "refused: a:1: no"},
            "The management API of RabbitMQ refuses the login: a:1: no.",
            "RABBITMQ_API_URL",
        ),
        (
            {"management_API": "unreachable: a:1: no"},
            "The management API of RabbitMQ cannot be used: a:1: no.",
            "rabbitmq_management",
        ),
    ],
)
def test_the_doctor_names_what_is_wrong_with_the_cluster(reported: dict[str, str], what: str, cure: str) -> None:
    status = InstallationStatus(servers={"Postgres": "ok"}, processes=[relay(**reported), relay(**reported)])
    [finding] = [each for each in diagnose(status) if "RabbitMQ" in each.what]
    assert finding.what == what and cure in finding.do


def test_the_doctor_names_causes_first() -> None:
    status = InstallationStatus(
        servers={"Postgres": "ok"}, processes=[relay(replica="missing: x", node="down: c", partition="apart: x")]
    )
    told = [each.what for each in diagnose(status) if "RabbitMQ" in each.what]
    assert [text.split()[0] for text in told] == ["RabbitMQ", "A", "Queues"]
