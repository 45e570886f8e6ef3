"""ops/alerts: each rule fires within a minute of its outage, by what /metrics says then, and no other does; each has a section
in docs/operations.md; rules and dashboard use only metrics that exist. Prometheus's own promtool evaluates the rules."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from api.diagnosis.counts import finding_lines
from api.outbox_metrics import problem_lines
from ops.errors import CommandError
from schemas.diagnosis import postgres_health
from schemas.diagnosis.report.counts import count
from schemas.messages import QUEUES
from schemas.outbox import heartbeats, metrics
from schemas.outbox.dead_letters.unrecognized_messages import record_unrecognized
from schemas.outbox.heartbeats import LateHandler, Report
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.access import ops_channel
from schemas.xero.connection import NOT_CONNECTED
from schemas.xero.next_step import NO_USER
from tests.outbox.rows import ACTOR, connected, message
from tests.support import firm_rows
from tests.support.installation import CHECKOUT, SECRET_KEY, Installation, new_database
from tests.support.prometheus import RULES, program

TEXT = RULES.read_text()
ALERTS = re.findall(r'- alert: "(.*)"', TEXT)
SECTIONS = re.findall(r"^### (.*)$", (CHECKOUT / "docs/operations.md").read_text(), re.MULTILINE)
DASHBOARD = json.loads((CHECKOUT / "ops/alerts/grafana.json").read_text())
OF_THE_DASHBOARD = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SETTINGS = Settings(
    database_url="",
    secret_key=SecretStr(SECRET_KEY),
    xero_client_id="an app",
    slack_bot_token=SecretStr("xoxb-not-a-token"),
    ops_slack_channel="C0OUTAGES",
)
STEP, OVER, END = 15, 20, 48  # seconds between scrapes; the outage ends after 20 of them
Series = dict[str, float]
Outage = Callable[[Connection], Awaitable[None]]


def test_each_alert_is_named_as_its_section_and_names_it() -> None:
    assert [name for name in ALERTS if name not in SECTIONS] == [] and len(ALERTS) > 20
    anchors = [re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in ALERTS]
    assert re.findall(r'section: "docs/operations.md#(.*)"', TEXT) == anchors


def test_rules_and_dashboard_use_only_metrics_that_exist(stint: Installation) -> None:
    types = re.findall(r"^# TYPE (stint_\w+) (\w+)", httpx2.get(f"{stint.url}/metrics").text, re.MULTILINE)
    known = {name for name, _ in types}
    known |= {f"{name}_{part}" for name, kind in types if kind == "histogram" for part in ("bucket", "count", "sum")}
    used = set(re.findall(r"stint_\w+", " ".join([*re.findall(r"expr: (.*)", TEXT), *OF_THE_DASHBOARD])))
    assert used - known == set()


def test_counters_of_alerts_are_there_before_the_first_event(stint: Installation) -> None:
    """Prometheus sees no growth in a series that begins with it."""
    text = httpx2.get(f"{stint.url}/metrics").text
    counters = re.findall(r"increase\((stint_\w+)(?:{.*?})?\[", TEXT)
    assert [name for name in counters if not re.search(rf"^{name}[{{ ]", text, re.MULTILINE)] == [] and len(counters) == 4
    assert set(re.findall(r'stint_listeners_ended_total{why="(.*)"}', text)) >= {"slow", "error"}


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return program("promtool")
    except CommandError as error:
        pytest.skip(str(error))


async def _alive(conn: Connection) -> None:
    for kind, queues in (("api", []), ("relay", []), ("work", list(QUEUES))):
        await _beat(conn, kind, queues)


async def _beat(conn: Connection, kind: str, queues: list[str], report: Report | None = None) -> None:
    await heartbeats.beat(
        conn, process=f"here:{kind}", kind=kind, queues=queues, started=time.monotonic() - 3_600, report=report
    )


def _problem(server: str, code: str) -> Outage:
    kind, queues = ("relay", []) if server == "RabbitMQ" else ("work", list(QUEUES))
    return lambda conn: _beat(conn, kind, queues, Report(problems={server: f"{code}: words"}))


def _sql(statement: str) -> Outage:
    async def change(conn: Connection) -> None:
        await conn.execute(statement)

    return change


async def _late_handler(conn: Connection) -> None:
    late = LateHandler(actor=ACTOR, message_id=UUID(int=1), seconds=99)
    await _beat(conn, "work", list(QUEUES), Report(late_handlers=[late]))


async def _old_message(conn: Connection) -> None:
    await message(conn, "sent", created_at="now() - interval '61 seconds'", available_at="now() - interval '1 hour'")


async def _dead_letter(conn: Connection) -> None:
    await message(conn, "dead", died_at="now()")


async def _no_access_to_xero(conn: Connection) -> None:
    await firm_rows.connect_xero(conn)
    await conn.execute("UPDATE xero_connection SET needs_reconnect_at = now()")


async def _refused_bill(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await firm_rows.bill(conn, rows, status="approved", xero_status="failed", xero_error="the project is closed")


async def _bill_without_a_connection(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await firm_rows.bill(conn, rows, status="approved", xero_status="not_connected", xero_error=NOT_CONNECTED)


async def _timer_without_access(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await conn.execute(
        "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, date_trunc('second', now()))",
        (rows.user, rows.task),
    )
    await conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (rows.user,))


async def _waiting_bill(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await firm_rows.bill(conn, rows, status="approved", xero_status="not_mapped", xero_error=f"It waits: {NO_USER}.")


async def _differing_bill(conn: Connection) -> None:
    rows = await firm_rows.firm(conn)
    await firm_rows.bill(conn, rows, status="approved", xero_status="differs", xero_error="Its time entry was changed in Xero.")


async def _stray_entry(conn: Connection) -> None:
    await firm_rows.connect_xero(conn)
    await conn.execute(
        """
        INSERT INTO xero_stray_entries (tenant_id, entry_id, project_id, bill_id, minutes, first_seen_at)
        SELECT tenant_id, 'e', 'p', gen_random_uuid(), 60, now() - interval '1 day' FROM xero_connection
        """
    )


_UNUSABLE = {name: {f"host of {name}": "unusable: b does not answer"} for name in ("RabbitMQ", "Postgres")}
# by the section: what Postgres has in the outage
IN_POSTGRES: dict[str, Outage] = {
    "RabbitMQ does not answer": _problem("RabbitMQ", "unreachable"),
    "RabbitMQ refuses the login": _problem("RabbitMQ", "refused"),
    "RabbitMQ blocks publishers": _problem("RabbitMQ", "blocked"),
    "RabbitMQ does not confirm messages": _problem("RabbitMQ", "unconfirmed"),
    "RabbitMQ has a certificate that is not accepted": _problem("RabbitMQ", "tls"),
    "A certificate ends soon": _problem("certificate of RabbitMQ", "ends"),
    "A certificate has ended": _problem("certificate of Postgres", "ended"),
    "Mail does not answer": _problem("mail", "unreachable"),
    "Mail refuses the login": _problem("mail", "refused"),
    "Mail accepts no mails": _problem("mail", "declined"),
    "A host of RabbitMQ cannot be used": lambda conn: _beat(conn, "relay", [], Report(problems=_UNUSABLE["RabbitMQ"])),
    "RabbitMQ is partitioned": lambda conn: _beat(conn, "relay", [], Report(problems={"partition of RabbitMQ": "apart: a"})),
    "A node of RabbitMQ is down": lambda conn: _beat(conn, "relay", [], Report(problems={"node of RabbitMQ": "down: a"})),
    "Queues of RabbitMQ lack replicas": lambda conn: _beat(
        conn, "relay", [], Report(problems={"replica of RabbitMQ": "missing: timers"})
    ),
    "The management API of RabbitMQ cannot be used": lambda conn: _beat(
        conn, "relay", [], Report(problems={"management API of RabbitMQ": "refused: it refuses the password"})
    ),
    "A host of Postgres cannot be used": lambda conn: _beat(conn, "relay", [], Report(problems=_UNUSABLE["Postgres"])),
    "Processes are gone": _sql(
        """
        INSERT INTO heartbeats (process, kind, queues, started_at, seen_at, ended_at)
        VALUES ('there:1', 'relay', '{}', now() - interval '1 hour', now() - interval '20 seconds', 'infinity')
        """
    ),
    "No relay is alive": _sql("DELETE FROM heartbeats WHERE kind = 'relay'"),
    "No worker is alive for a queue": _sql("UPDATE heartbeats SET queues = '{bills}' WHERE kind = 'work'"),
    "A handler runs longer than its deadline": _late_handler,
    "Messages wait too long": _old_message,
    "Dead letters": _dead_letter,
    "Unrecognized messages": lambda conn: record_unrecognized(conn, queue="mail", reason="rejected", body=b"x"),
    "Xero and Slack": _no_access_to_xero,
    "Xero is not connected": _bill_without_a_connection,
    "The database is of a newer version": _sql("INSERT INTO migrations (name) VALUES ('9999_later')"),
    "SECRET_KEY does not decrypt": _sql("UPDATE signing_keys SET private_pem = overlay(private_pem placing 'AAAA' from 40)"),
    "Xero or Slack does not answer": _problem("Slack", "unreachable"),
    "Xero has refused bills": _refused_bill,
    "A clock is wrong": _sql("UPDATE heartbeats SET clock_seconds = 600 WHERE kind = 'work'"),
    "A queue differs": lambda conn: _beat(conn, "relay", [], Report(other_queues=["The queue timers is of the type quorum"])),
    "Messages are for a queue that this version does not know": _sql(
        "INSERT INTO messages (id, actor, queue, body, max_attempts) VALUES (gen_random_uuid(), 'x', 'rockets', '{}', 5)"
    ),
    "Timers run of users who have no access any more": _timer_without_access,
    "Approved bills wait for Xero": _waiting_bill,
    "Bills differ from their time entries in Xero": _differing_bill,
    "Xero has time entries with the mark of a bill": _stray_entry,
    "Slack takes no posts about outages": lambda conn: ops_channel.record_refused(conn, "is_archived", SETTINGS),
    "The database lacks migrations": _sql("DELETE FROM migrations WHERE name = (SELECT max(name) FROM migrations)"),
    "User pool was last read": _sql("UPDATE user_pool_readings SET read_at = now() - interval '151 seconds'"),
}


def parsed(lines: list[str]) -> Series:
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


async def measured(url: str, settings: Settings) -> tuple[Series, dict[str, Series]]:
    """The metrics of Postgres when nothing is wrong, and in each outage."""
    async with connected(url) as conn:
        await _alive(conn)
        healthy, found = await _read(conn, settings), {}
        for name, outage in IN_POSTGRES.items():
            async with conn.transaction(force_rollback=True):
                await _alive(conn)
                await outage(conn)
                found[name] = await _read(conn, settings)
    return healthy, found


async def _read(conn: Connection, settings: Settings) -> Series:
    health = postgres_health.lines(await postgres_health.read(conn))
    found = finding_lines(await count(conn, settings))
    return parsed([*health, *await metrics.metrics(conn), *await problem_lines(conn, settings), *found])


def in_the_process(healthy: Series) -> dict[str, tuple[Series, int]]:
    """The outages that an API process counts itself, and a frozen process, which takes a quarter of a minute, made from what it
    says otherwise: what changes, and by how much a counter grows between two scrapes."""
    waits = next(name for name in healthy if name.startswith("stint_connection_waits{"))
    alive = [name for name in healthy if name.startswith("stint_alive{")]
    oldest = next(name for name in healthy if name.startswith("stint_oldest_due_seconds{"))
    # no heartbeat can be written then, and what was due waits
    refused = dict.fromkeys([*alive, "stint_postgres_writable"], 0.0) | {oldest: 200.0}
    connections = {"stint_postgres_connections": 99.0, "stint_postgres_connections_most": 100.0}
    return {
        "Postgres does not answer": ({"stint_postgres_up": 0}, 0),
        "API does not answer": ({'up{job="stint"}': 0}, 0),
        "API is not ready": ({waits: 3}, 0),
        "API has too few processes": ({'stint_findings{section="API has too few processes"}': 1}, 0),
        "Postgres is read-only": (refused, 0),
        "Postgres has a full disk": (refused | {"stint_postgres_disk_full": 1}, 0),
        "Postgres is blocked": ({"stint_postgres_blocked_seconds": 16}, 0),
        "Connections of Postgres are running out": (connections, 0),
        "Transaction ids of Postgres are running out": ({"stint_postgres_transaction_ids_age": 1.1e9}, 0),
        "Old rows of Postgres cannot be removed": ({"stint_postgres_held_seconds": 3_601}, 0),
        "A synchronous standby of Postgres is missing": ({"stint_postgres_standbys_missing": 1}, 0),
        "A standby of Postgres is gone": ({"stint_postgres_standbys_gone": 1}, 0),
        "A standby of Postgres is behind": ({'stint_postgres_standby_behind_bytes{standby="a"}': 3e8}, 0),
        "A replication slot of Postgres keeps WAL": ({'stint_postgres_slot_bytes{slot="a"}': 2e9}, 0),
        "The last backup is too old": ({"stint_backup_age_seconds": 172_801, "stint_backup_max_age_seconds": 172_800}, 0),
        "A process is frozen": ({'stint_frozen{kind="work"}': 1}, 0),
        "User pool was last read": ({"stint_user_pool_failing": 1}, 0),
        "Answers with 5xx": ({"stint_requests_failed_total": 0}, 5),
        "Live events end, or are many": ({'stint_listeners_ended_total{why="slow"}': 0}, 10),
        "Attempts fail, or handlers grow slow": ({'stint_attempts_failed_total{actor="sync_bill"}': 0}, 5),
        "Replayed messages fail again": ({'stint_replayed_total{outcome="failed"}': 0}, 1),
    }


def one_test(name: str, healthy: Series, changed: Series, growth: int) -> dict[str, object]:
    """A unit test for promtool: an outage of five minutes. Its alerts fire within a minute, and are over a minute after it, or
    six for what is counted over five."""
    series = []
    for each in healthy | changed:
        before, during = healthy.get(each), changed.get(each, healthy.get(each))
        values = [before] + [during] * (OVER - 1) + [before] * (END - OVER)
        if growth and each in changed:
            start = before or 0.0
            values = [start + growth * min(at, OVER) for at in range(END)]
        # a series that ends is stale; one that has not begun is absent
        texts = [
            "_" if value is None and at == 0 else "stale" if value is None else f"{value:g}" for at, value in enumerate(values)
        ]
        series.append({"series": each, "values": " ".join(texts)})
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    fires = [{"labels": f'{{alertname="{name}"}}', "value": 1}]
    begun, over = 75 if name == "API is not ready" else 60, 360 if growth else 60
    return {
        "interval": f"{STEP}s",
        "name": name,
        "input_series": series,
        "promql_expr_test": [
            {"expr": f"{firing} / {firing}", "eval_time": f"{STEP + begun}s", "exp_samples": fires},
            {"expr": firing, "eval_time": f"{STEP * OVER + over}s", "exp_samples": []},
        ],
    }


def test_each_alert_fires_in_its_outage_and_only_then(
    promtool: Path, stint: Installation, database_url: str, tmp_path: Path
) -> None:
    process = parsed(httpx2.get(f"{stint.url}/metrics").text.splitlines())
    healthy, outages = asyncio.run(measured(new_database(database_url), SETTINGS))
    of_the_process = re.compile("stint_(postgres_(up|writable|disk_full)|connection|requests)")
    healthy |= {name: value for name, value in process.items() if of_the_process.match(name)}
    healthy |= {'up{job="stint"}': 1}
    healthy = {name: value for name, value in healthy.items() if "_bucket{" not in name and "_created" not in name}
    tests = [one_test("", healthy, {}, 0)]
    tests[0]["promql_expr_test"] = [{"expr": 'ALERTS{alertstate="firing"}', "eval_time": "6m", "exp_samples": []}]
    for name in IN_POSTGRES:
        changed = {each: value for each, value in outages[name].items() if healthy.get(each) != value}
        tests.append(one_test(name, healthy, changed, 0))
    tests += [one_test(name, healthy, *outage) for name, outage in in_the_process(healthy).items()]
    assert {each["name"] for each in tests} - {""} == set(ALERTS)

    record = {"groups": [{"name": "d", "rules": [{"record": f"r{n}", "expr": e} for n, e in enumerate(OF_THE_DASHBOARD)]}]}
    (tmp_path / "dashboard.yaml").write_text(json.dumps(record))
    plan = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP}s", "tests": tests}
    (tmp_path / "outages.yaml").write_text(json.dumps(plan))
    run([promtool, "check", "rules", RULES, tmp_path / "dashboard.yaml"])
    run([promtool, "test", "rules", tmp_path / "outages.yaml"])


def run(command: list[Path | str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
