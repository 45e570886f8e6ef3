"""Postgres takes no writes for a while: every route says so, workers wait, the doctor names the cause, its cure works, and all
goes on without a restart."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.api.table import TABLE
from tests.api.tenants import tenant
from tests.api.test_roles import send
from tests.console.client import Browsers
from tests.console.table import TABLE as PAGES
from tests.console.test_roles import send as send_form
from tests.outbox.probe import Probe, ProbeCall
from tests.outbox.probes import Probes, running_probes
from tests.support import servers
from tests.support.answers import problem
from tests.support.clusters import Cluster, Clusters, clusters
from tests.support.given import Given
from tests.support.installation import Installation, emptied, eventually

pytestmark = [pytest.mark.slow, pytest.mark.processes]

# without operations, without a signature, without Xero, and for an unknown id they write nothing
WRITES_NOTHING = {
    "POST /api/sync",
    "POST /api/slack/events",
    "POST /api/slack/interactivity",
    "POST /api/xero/connect",
    "POST /api/dead-letters/trigger",
}


@pytest.fixture
def made() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


@pytest.fixture
def primary(made: Clusters) -> Cluster:
    return made.new_with_stint("primary", "max_connections = 120")


@pytest.fixture
def stint(primary: Cluster, database_url: str, worker_id: str, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(primary.url, emptied(servers.addresses().amqp_urls[f"{worker_id}-own"]), tmp_path)
    installation.environment["PUBLIC_URL"] = installation.url
    try:
        yield installation
    finally:
        installation.stop()


def doctor(stint: Installation) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(stint.command("doctor", "--json").stdout)
    return found


def carry_out(cure: str, primary: Cluster) -> None:
    """Runs the statements of a cure, as a person does in psql."""
    with primary.sql() as conn:
        for statement in cure.partition("in psql: ")[2].split(";"):
            conn.execute(statement.encode())


def refused(stint: Installation, given: Given) -> bool:
    answer = given.client({}).get("/health/ready")
    return answer.status_code == 503 and "Postgres is read-only" in answer.text


def test_each_route_is_503_and_work_waits_while_postgres_is_read_only(stint: Installation, primary: Cluster) -> None:
    with running_probes(stint) as probes, closing(Given(stint)) as given, closing(Browsers(given)) as browsers:
        stint.start("api").wait_until_ready()
        own, admin, browser = tenant(given), given.admin(), browsers.admin()
        ids = messages_with_the_worker(probes)
        with primary.sql() as conn:
            conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            conn.execute("SELECT pg_reload_conf()")
        stint.processes["work"].send_signal(signal.SIGCONT)
        eventually(lambda: refused(stint, given), why="the API is not ready")

        work = {"kind": "sync_bill", "id": own.ids["bill_id"], "reason": "wrong in Xero"}
        answers = {route: send(admin, route, own) for route in TABLE}
        answers["POST of a trigger for a bill"] = admin.http.post("/api/dead-letters/trigger", json=work)
        for route, answer in answers.items():
            if route.startswith("GET "):
                assert answer.status_code < 500 or route == "GET /health/ready", route
            elif route not in WRITES_NOTHING:
                assert problem(answer, 503)["detail"].startswith("The database accepts no changes"), route
                assert answer.headers["retry-after"] == "5", route
        statuses = {route: send_form(browser, route, own).status for route in PAGES}
        assert {route for route, status in statuses.items() if status >= 500 and status != 503} == set()

        [found] = doctor(stint)
        assert found["what"] == "Postgres is read-only: default_transaction_read_only is on (configuration file)."
        assert "Postgres  is read-only" in stint.command("status").stdout
        measured = given.client({}).get("/metrics").text
        assert "stint_postgres_writable 0" in measured and "stint_postgres_disk_full 0" in measured
        eventually(lambda: "waiting for Postgres: ReadOnlySqlTransaction" in stint.log("work"))
        carry_out(found["do"], primary)

        eventually(lambda: stint.answers("/health/ready"), why="the API is ready again")
        for message_id in ids:
            probes.wait_for(message_id, "done", seconds=40)
        assert stint.value("SELECT count(*) FROM message_attempts WHERE message_id = ANY(%s)", ids) == 0
        assert "stint_postgres_writable 1" in given.client({}).get("/metrics").text
        assert not any("Postgres" in finding["what"] for finding in doctor(stint))
        given.task(admin)
        stint.verify()


def messages_with_the_worker(probes: Probes) -> list[UUID]:
    """Messages that RabbitMQ has delivered to a worker that is frozen."""
    probes.stint.processes["work"].send_signal(signal.SIGSTOP)
    ids = probes.enqueue(Probe(key="effect"), ProbeCall(key="call"))
    for message_id in ids:
        probes.wait_for(message_id, "sent")
    return ids


def test_sessions_that_stay_read_only_after_the_cure_are_replaced(stint: Installation, primary: Cluster) -> None:
    """ALTER DATABASE is for new sessions: those of the API have what it said when they began."""
    with closing(Given(stint)) as given:
        stint.start("api").wait_until_ready()
        admin = given.admin()
        with primary.sql("postgres") as conn:
            conn.execute("ALTER DATABASE stint SET default_transaction_read_only = on")
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'stint'")
        eventually(lambda: refused(stint, given), why="the API is not ready")
        assert {admin.http.post("/api/customers", json={"name": "Acme"}).status_code for _ in range(30)} == {503}
        with primary.sql() as conn:
            conn.execute("SET default_transaction_read_only = off")
            conn.execute("ALTER TABLE heartbeats RENAME TO others")  # also while it cannot read the state of the processes
            found = doctor(stint)[0]
            conn.execute("ALTER TABLE others RENAME TO heartbeats")
        assert found["what"] == "Postgres is read-only: default_transaction_read_only is on (database)."
        carry_out(found["do"], primary)
        eventually(lambda: stint.answers("/health/ready"), why="the API is ready again")
        answers = [admin.http.post("/api/customers", json={"name": f"Acme {n}"}).status_code for n in range(30)]
        assert answers == [201] * 30


def test_a_standby_is_named_and_used_once_it_is_promoted(made: Clusters, stint: Installation, primary: Cluster) -> None:
    standby = made.keep(primary.base_backup("standby", f"primary_conninfo = 'host={primary.sockets} user=stint'"))
    standby.touch("standby.signal")
    standby.start()
    stint.environment["DATABASE_URL"] = standby.url
    stint.start("api", "relay")
    with closing(Given(stint)) as given:
        eventually(lambda: stint.answers("/health/live"))
        eventually(lambda: refused(stint, given))
        [found] = doctor(stint)
        assert found["what"] == "Postgres is read-only: it is a standby." and "pg_ctl promote" in found["do"]
        eventually(lambda: "waiting: Postgres is read-only" in stint.log("relay"))
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.value("CREATE TABLE nothing ()")
        standby.value("SELECT pg_promote()")
        stint.wait_until_ready()
        given.admin()
        eventually(lambda: "relaying" in stint.log("relay"), why=stint.log("relay")[-800:])
