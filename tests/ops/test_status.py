"""`./stint status` and `./stint doctor`: the state of an installation, and what is wrong with it."""

import asyncio
import hashlib
import json
import re
import signal
import socket
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from schemas.diagnosis import mail
from schemas.diagnosis.finding import Finding
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.report import api, collect
from schemas.diagnosis.secrets import Unreadable
from schemas.diagnosis.status import InstallationStatus
from schemas.outbox.heartbeats import Process
from schemas.outbox.metrics import QueueDepth
from schemas.settings import Settings
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation, eventually

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def found(stint: Installation) -> list[str]:
    """The findings of the doctor, with its exit code checked."""
    result = stint.command("doctor", "--json")
    findings: list[dict[str, str]] = json.loads(result.stdout)
    assert result.returncode == bool(findings)
    assert all(finding["why"] and finding["do"] for finding in findings)
    return [finding["what"] for finding in findings]


def test_nothing_is_wrong_with_what_runs_as_it_should(own: Installation) -> None:
    own.environment["PUBLIC_URL"] = own.url
    own.start().wait_until_ready()
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 3)
    assert found(own) == []
    assert "Nothing is wrong." in own.command("doctor").stdout
    for name in ("work", "relay", "api"):
        own.kill(name, signal.SIGTERM)
    ended = "SELECT array_agg(kind ORDER BY kind) FROM heartbeats WHERE ended_at BETWEEN seen_at AND now()"
    assert own.value(ended) == ["api", "relay", "work"], "each has told that it ends"


def test_the_doctor_names_what_is_not_running_and_what_is_dead(own: Installation) -> None:
    own.environment["PUBLIC_URL"] = own.url
    own.start("api", "relay", "work:mail").wait_until_ready()
    given = Given(own)
    admin = given.admin()
    customer = given.customer(admin)
    # without a mail server, the mail of the invitation becomes a dead letter
    admin.post(f"/api/customers/{customer['id']}/users/invite", {"email": "jo@example.com", "name": "Jo"})
    given.settled()
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 3)
    named = " ".join(found(own))
    assert "No worker is alive for the queue timers." in named and "queue mail" not in named
    assert "Dead letters: 1, in 1 group." in named
    with own.sql() as conn:
        conn.execute(
            "INSERT INTO messages (id, actor, queue, body, max_attempts) VALUES (gen_random_uuid(), 'x', 'rockets', '{}', 5)"
        )
    named = " ".join(found(own))
    assert "Messages are for a queue that this version does not know: 1 for rockets." in named
    assert "--queues rockets" not in named

    own.stop()
    with own.sql() as conn:  # a minute later
        conn.execute("UPDATE heartbeats SET seen_at = seen_at - interval '1 minute'")
    named = " ".join(found(own))
    assert "No relay is alive." in named and "queue mail" in named
    assert "API does not answer" in named
    given.close()


def test_an_api_process_that_does_not_start_is_reported_although_another_one_answers(own: Installation) -> None:
    own.start("api").wait_until_ready()
    pid = own.processes["api"].pid
    assert pid is not None
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats WHERE kind = 'api'") == 1)

    def of_the_api(pids: list[int], should_be: int) -> tuple[str, list[Finding]]:
        expected = collect.ApiProcesses(pids, should_be)
        status = asyncio.run(collect.collect(own.settings, api_state=api.probe(own.url), api_processes=expected))
        return status.servers["API"], [finding for finding in diagnose(status) if finding.what.startswith("API")]

    assert of_the_api([pid], 1) == ("ok", [])
    for pids in ([pid], [pid, 999_999]):  # the second one ends at once, or has not connected yet
        state, [finding] = of_the_api(pids, 2)
        assert state == "has too few processes: 1 of 2" and "its log says why" in finding.do


def test_without_postgres_the_doctor_says_so_and_nothing_else(own: Installation) -> None:
    own.environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    assert [name.partition(" ")[0] for name in found(own)] == ["Postgres"]


def test_on_an_overloaded_host_what_is_late_is_not_called_away_without_saying_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(database_url="postgresql://127.0.0.1:1/x", secret_key=SECRET_KEY, smtp_url=url)
        monkeypatch.setattr(collect, "OVERLOAD", 0.0)
        monkeypatch.setattr(mail, "PROBE_SECONDS", 0.1)
        [first, *others] = diagnose(asyncio.run(collect.collect(settings, api_state=api.probe(None))))
        assert re.match(r"This host is overloaded: \d+ processes run or wait for \d+ processors?\.$", first.what)
        assert [each.what.partition(" ")[0] for each in others] == ["Postgres", "mail"]
        monkeypatch.setattr(collect, "OVERLOAD", 1e9)
        assert diagnose(asyncio.run(collect.collect(settings, api_state=api.probe(None)))) == others


def test_secrets_and_clocks_are_named_before_late_messages_and_dead_letters() -> None:
    status = InstallationStatus(
        servers={"Postgres": "ok"},
        processes=[Process(process="a:1", kind="relay", queues=[], started_at=AT, seen_at=AT, alive=True)],
        queues=[QueueDepth(name="timers", ready=1)],
        dead=1,
        groups=1,
        wrong_clocks=["the host b (600 s ahead of Postgres)"],
        unreadable_secrets=Unreadable(signing_key=True),
    )
    named = [finding.what.split(" ")[0] for finding in diagnose(status)]
    assert named == ["A", "SECRET_KEY", "No", "Dead"]


def test_the_status_has_queues_processes_and_dead_letters(own: Installation) -> None:
    own.start("api", "relay", "work").wait_until_ready()
    given = Given(own)
    someone = given.person()
    given.stopped(someone, given.task(someone))
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 3)
    standing: dict[str, Any] = json.loads(own.command("status", "--json").stdout)
    assert standing["servers"]["Postgres"] == standing["servers"]["RabbitMQ"] == "ok"
    assert {process["kind"] for process in standing["processes"] if process["alive"]} == {"api", "relay", "work"}
    assert {queue["name"] for queue in standing["queues"]} >= {"timers", "bills", "xero", "slack", "mail"}
    shown = own.command("status").stdout
    assert "timers" in shown and "1 relay, 0 unrecognized messages." in shown
    assert "No ./stint up runs here, and no API is named." in shown
    given.close()


def test_the_metrics_say_what_handlers_did(own: Installation) -> None:
    own.start().wait_until_ready()
    given = Given(own)
    someone = given.person()
    given.stopped(someone, given.task(someone))
    eventually(lambda: own.value("SELECT coalesce(sum(handled), 0) FROM handler_totals") >= 1)
    metrics = someone.http.get("/metrics").text
    assert 'stint_handler_seconds_count{actor="stop_timer"} 1' in metrics
    assert 'stint_handler_seconds_bucket{actor="stop_timer",le="+Inf"} 1' in metrics
    assert 'stint_alive{kind="relay"} 1' in metrics and "stint_unrecognized_messages 0" in metrics
    given.close()


def test_the_doctor_names_what_xero_and_slack_have_withdrawn(own: Installation) -> None:
    own.environment |= {"PUBLIC_URL": own.url, "SLACK_BOT_TOKEN": "xoxb-not-a-token-of-anyone"}
    own.environment |= {"XERO_CLIENT_ID": "an app", "XERO_CLIENT_SECRET": "its secret"}
    own.start("api", "relay", "work").wait_until_ready()
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 3)
    assert found(own) == ["Xero is not connected."]
    with own.sql() as conn:
        conn.execute("UPDATE xero_connection SET needs_reconnect_at = now()")
        token_hash = hashlib.sha256(b"xoxb-not-a-token-of-anyone").digest()
        conn.execute(
            """
            INSERT INTO slack_access_losses (token_hash, method, problem, needed, lost_at, try_at)
            VALUES (%s, 'auth.test', 'account_inactive', '', '2026-03-02T09:00:00Z', now() + interval '1 hour')
            """,
            (token_hash,),
        )
    xero, slack = found(own)
    assert (
        "Xero gives no access since" in xero
        and "no longer accepts" in xero
        and slack.startswith("Slack refuses calls since 2026-03-02")
    )
    assert "the app was removed from the Slack workspace" in slack


def test_outcomes_of_replays_are_counted_after_the_replays_are_deleted(own: Installation) -> None:
    own.start("api").wait_until_ready()

    def replay(days_ago: int, *outcomes: str) -> None:
        with own.sql() as conn:
            conn.execute(
                """
                WITH replay AS (
                    INSERT INTO replays (who, reason, state, ended_at)
                    VALUES ('jo', 'fixed', 'done', now() - make_interval(days => %s)) RETURNING id
                )
                INSERT INTO replay_messages (replay_id, n, message_id, outcome)
                SELECT id, n, gen_random_uuid(), outcome FROM replay, unnest(%s::text[]) WITH ORDINALITY o (outcome, n)
                """,
                (days_ago, list(outcomes)),
            )

    def counted() -> dict[str, int]:
        answer = httpx2.get(f"{own.url}/metrics").text
        return {name: int(n) for name, n in re.findall(r'^stint_replayed_total\{outcome="(\w+)"\} (\d+)$', answer, re.M)}

    replay(31, "succeeded", "succeeded", "failed")
    replay(32, "succeeded", "skipped")
    replay(1, "failed")
    expected = {"failed": 2, "skipped": 1, "succeeded": 3}
    assert counted() == expected
    own.start("relay")
    eventually(lambda: own.value("SELECT count(*) FROM replays") == 1, why="the old ones are forgotten")
    assert own.value("SELECT count(*) FROM replay_messages") == 1
    assert counted() == expected
    replay(1, "succeeded")
    assert counted() == expected | {"succeeded": 4}
