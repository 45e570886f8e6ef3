"""A database of the previous release that has grown for years, its users at work, and how long Postgres makes them wait."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import psycopg

from tests.support.given import Json, Person
from tests.support.installation import Installation

USERS, CUSTOMERS, TASKS = 100, 20, 200
A_DAY = 8  # of a user, on one bill

# Entries do not overlap, but for one in 97. Triggers do not run, so that a million entries take a minute and not an hour.
FILL = f"""
SET LOCAL session_replication_role = replica;
SET LOCAL synchronous_commit = off;
CREATE TEMPORARY TABLE who ON COMMIT DROP AS SELECT n, gen_random_uuid() AS id FROM generate_series(0, {USERS - 1}) n;
CREATE TEMPORARY TABLE firms ON COMMIT DROP AS
    SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS pillar FROM generate_series(0, {CUSTOMERS - 1}) n;
CREATE TEMPORARY TABLE work ON COMMIT DROP AS
    SELECT n, gen_random_uuid() AS id FROM generate_series(0, {TASKS - 1}) n;
INSERT INTO users (id, email, name, role, joined_at, changed_xid)
    SELECT id, n || '@consultants.example.com', 'Consultant ' || n, 'internal_user', now(), pg_current_xact_id() FROM who;
INSERT INTO customers (id, name, created_from, created_by, changed_xid)
    SELECT f.id, 'Customer ' || f.n, '', w.id, pg_current_xact_id() FROM firms f JOIN who w ON w.n = 0;
INSERT INTO pillars (id, customer_id, name, is_default, changed_xid)
    SELECT pillar, id, 'General Support', true, pg_current_xact_id() FROM firms;
INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by, changed_xid)
    SELECT k.id, 'Task ' || k.n, f.id, f.pillar, '', w.id, pg_current_xact_id()
    FROM work k JOIN firms f ON f.n = k.n % {CUSTOMERS} JOIN who w ON w.n = k.n % {USERS};
CREATE TEMPORARY TABLE days ON COMMIT DROP AS
    SELECT gen_random_uuid() AS bill, w.id AS whose, f.id AS customer, f.pillar, d.n,
           current_date - 30 - (d.n / {USERS})::int AS day, d.n % 4 <> 0 AS approved, w.n % {TASKS} AS task
    FROM generate_series(0, ENTRIES / {A_DAY} - 1) AS d(n)
    JOIN who w ON w.n = d.n % {USERS} JOIN firms f ON f.n = w.n % {CUSTOMERS};
INSERT INTO time_bills (id, user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode, status,
                        approved_by, approved_at, approved_seconds, xero_status, changed_xid)
    SELECT bill, whose, customer, pillar, day, {A_DAY} * 1800, 15, 'up', CASE WHEN approved THEN 'approved' ELSE 'pending' END,
           CASE WHEN approved THEN whose END, CASE WHEN approved THEN now() END,
           CASE WHEN approved THEN {A_DAY} * 1800 END,
           CASE WHEN NOT approved THEN 'none' WHEN n % 50 = 1 THEN 'failed' ELSE 'not_connected' END,
           pg_current_xact_id()
    FROM days;
INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id, changed_xid)
    SELECT gen_random_uuid(), k.id, d.whose, d.customer, d.pillar, at, at + interval '30 minutes', d.day, d.bill,
           pg_current_xact_id()
    FROM days d CROSS JOIN generate_series(0, {A_DAY - 1}) AS e(n) JOIN work k ON k.n = d.task,
    LATERAL (SELECT d.day + interval '8 hours' + e.n * interval '1 hour'
                    - CASE WHEN d.n % 97 = 0 AND e.n = 1 THEN interval '45 minutes' ELSE '0' END AS at) AS starts;
INSERT INTO xero_entries (bill_id, tenant_id, project_id, entry_ids, content)
    SELECT bill, 'tenant', 'project', '{{}}', '{{}}' FROM days WHERE approved;
INSERT INTO messages (id, actor, queue, body, state, max_attempts, done_at, died_at, error, fingerprint)
    SELECT gen_random_uuid(), 'sync_bill', 'xero', jsonb_build_object('bill_id', gen_random_uuid()),
           CASE WHEN dead THEN 'dead' ELSE 'done' END, 25, CASE WHEN NOT dead THEN now() END, CASE WHEN dead THEN now() END,
           CASE WHEN dead THEN 'Refused' END, CASE WHEN dead THEN 'f' END
    FROM generate_series(1, MESSAGES) n, LATERAL (SELECT n % 100 = 0 AS dead) AS kind;
"""


def fill(conn: psycopg.Connection[Any], *, entries: int, messages: int) -> None:
    """Fills an empty database of any version since 0.2.0."""
    with conn.transaction():
        conn.execute(FILL.replace("ENTRIES", str(entries)).replace("MESSAGES", str(messages)).encode())
    conn.autocommit = True
    conn.execute("VACUUM ANALYZE")


class TableUsers:
    """For each table a connection that writes to it again and again, as far as locks are concerned."""

    def __init__(self, url: str) -> None:
        self.url, self._over = url, threading.Event()
        self._threads = [threading.Thread(target=self._use, args=(table,)) for table in (*Reader.TABLES, "xero_entries")]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _use(self, table: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            while not self._over.wait(0.02):
                with conn.transaction():
                    conn.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE".encode())


@dataclass
class Wait:
    """How long requests waited for locks: in samples of INTERVAL seconds, so that a machine that stands still for a while, and
    takes no samples meanwhile, is not counted."""

    INTERVAL = 0.05
    longest: float = 0.0
    what: str = ""


class LockWaits:
    """Looks again and again which statements wait for a lock that a migration has, or waits for, while the block runs."""

    QUERY = """
        SELECT w.pid, w.waitstart, concat_ws(' ', w.relation::regclass::text, w.locktype, w.mode, left(a.query, 300))
        FROM pg_locks w JOIN pg_stat_activity a USING (pid)
        WHERE NOT w.granted AND a.datname = current_database() AND a.application_name <> 'migrates'
          AND EXISTS (
              SELECT FROM pg_stat_activity m
              WHERE m.application_name = 'migrates' AND m.datname = a.datname AND m.pid = ANY (pg_blocking_pids(w.pid)))
    """

    def __init__(self, url: str) -> None:
        self.url, self.wait, self._over = url, Wait(), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Wait:
        self._thread.start()
        return self.wait

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        seen: Counter[tuple[int, Any]] = Counter()
        with psycopg.connect(self.url, autocommit=True) as conn:
            while not self._over.wait(Wait.INTERVAL):
                for pid, since, what in conn.execute(self.QUERY).fetchall():
                    seen[pid, since] += 1
                    if (waited := seen[pid, since] * Wait.INTERVAL) > self.wait.longest:
                        self.wait.longest, self.wait.what = waited, what


class Reader:
    """A transaction that has read every table and stays open for two seconds, again and again, as a report does: a statement
    that needs a table for itself waits for it, and all others wait behind that statement."""

    SECONDS, PAUSE_SECONDS = 2.0, 0.5
    TABLES = ("users", "customers", "tasks", "timers", "time_entries", "time_bills", "messages")

    def __init__(self, url: str) -> None:
        self.url, self._over, self._has_read = url, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has_read.wait(60)

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        with psycopg.connect(self.url) as conn:
            while not self._over.wait(self.PAUSE_SECONDS):
                for table in self.TABLES:
                    conn.execute(f"SELECT FROM {table} LIMIT 1".encode())
                self._has_read.set()
                self._over.wait(self.SECONDS)
                conn.rollback()


@dataclass
class Traffic:
    """Users at work, each in a thread of its own, while the block runs. Counts what they did, with the seconds of the slowest
    request of each kind, and keeps what failed."""

    admin: Person
    people: list[Person]
    tasks: list[Json]
    bills: list[str]  # pending ones of earlier days
    count: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    rounds: Counter[int] = field(default_factory=Counter)
    pause: float = 0.05
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        self._over.clear()
        work: list[Callable[[], None]] = [self._administrate, *(lambda by=by: self._consult(by) for by in self.people)]
        self._threads = [threading.Thread(target=self._repeat, args=(number, each)) for number, each in enumerate(work)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, number: int, work: Callable[[], None]) -> None:
        try:
            while not self._over.is_set():
                work()
                self.rounds[number] += 1
        except Exception as error:
            self.failed.append(repr(error))

    def _ask(self, by: Person, method: str, path: str, *, name: str = "", **more: Any) -> Json:
        name = f"{method} {name or path}"
        started = time.monotonic()
        answer: httpx2.Response = by.http.request(method, path, **more)
        seconds = time.monotonic() - started
        self.count[name] += 1
        self.slowest[name] = max(self.slowest.get(name, 0), seconds)
        if answer.status_code >= 400 and (name, answer.status_code) != ("POST /api/leads", 429):  # ten, and no more
            self.failed.append(f"{name}: {answer.status_code} {answer.text[:300]}")
        self._over.wait(self.pause)
        body: Json = answer.json() if answer.status_code < 400 and answer.content else {}
        return body

    def _consult(self, by: Person) -> None:
        """What a consultant does in a day."""
        task = random.choice(self.tasks)["id"]
        self._ask(by, "GET", "/api/me")
        self._ask(by, "GET", "/api/tasks", params={"limit": 20})
        self._ask(by, "PUT", f"/api/customers/{self.tasks[0]['customerId']}/focus", name="/focus")
        self._ask(by, "POST", f"/api/tasks/{task}/start", name="start")
        self._ask(by, "GET", "/api/active-timers")
        stop = self._ask(by, "POST", f"/api/tasks/{task}/stop", name="stop", params={"wait": 5})
        day = f"200{random.randrange(1, 10)}-0{random.randrange(1, 10)}-{random.randrange(10, 28)}"
        start = f"{day}T{random.randrange(10, 20)}:{random.randrange(10, 60)}:00Z"
        made = self._ask(
            by, "POST", "/api/time-entries", json={"taskId": task, "startTime": start, "duration": 600, "allowOverlap": True}
        )
        entry = f"/api/time-entries/{made.get('id')}"
        self._ask(by, "PATCH", entry, name="/api/time-entries/ID", json={"duration": 1200, "allowOverlap": True})
        self._ask(by, "POST", f"{entry}/notes", name="notes", json={"notes": "Done."})
        self._ask(by, "GET", "/api/time-entries", params={"limit": 50})
        self._ask(by, "GET", "/api/time-bills", params={"limit": 50})
        self._ask(by, "GET", "/api/sync", params={"limit": 100})
        if entry_id := stop.get("entryId") or stop.get("entry", {}).get("id"):
            self._ask(by, "GET", f"/api/time-entries/{entry_id}", name="/api/time-entries/ID")
        self._ask(by, "DELETE", entry, name="/api/time-entries/ID")

    def _administrate(self) -> None:
        """What an admin does in a day."""
        by = self.admin
        customer = self._ask(by, "POST", "/api/customers", json={"name": f"Customer {uuid4()}"})
        path = f"/api/customers/{customer.get('id')}"
        self._ask(by, "GET", "/api/customers", params={"limit": 20})
        self._ask(by, "POST", f"{path}/pillars", name="pillars", json={"name": "Network"})
        self._ask(by, "POST", "/api/tasks", json={"title": "Move the web shop", "customerId": customer.get("id")})
        self._ask(by, "POST", "/api/leads", json={"name": "Ada Park", "email": "ada@example.com"})
        self._ask(by, "GET", "/api/leads", params={"limit": 20})
        self._ask(by, "GET", "/api/time-bills", name="bills to approve", params={"status": "pending", "limit": 50})
        self._ask(by, "PATCH", f"/api/time-bills/{self.bills.pop()}", name="approve", json={"status": "approved"})
        for path in ("/api/dead-letters", "/api/dead-letters/groups", "/api/xero/status", "/api/slack/channel-mappings"):
            self._ask(by, "GET", path)
        self._ask(by, "GET", "/health/ready")


def traffic(stint: Installation, admin: Person, people: list[Person]) -> Traffic:
    """Users at work on tasks of one new customer."""
    customer = admin.post("/api/customers", {"name": f"Customer {uuid4()}"})
    body = {"title": "Migrate the mail server", "customerId": customer["id"]}
    pending = """
        SELECT id::text FROM time_bills
        WHERE status = 'pending' AND date BETWEEN '2010-01-01' AND current_date - 20 LIMIT 2000
    """
    bills = [bill for (bill,) in stint.rows(pending)]
    return Traffic(admin, people, [admin.post("/api/tasks", body) for _ in range(4)], bills)
