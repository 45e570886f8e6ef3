"""The initial data of a test, in the terms of the domain, created over HTTP as users create it."""

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2

from schemas.identity import sign_in_codes
from schemas.identity.local_accounts import NewAccount
from schemas.messages import SendCode
from schemas.postgres.connection import connect
from tests.support.apart import run_apart
from tests.support.installation import Installation, eventually

Json = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """A user with a token, and an HTTP client that sends it."""

    id: str
    email: str
    token: str
    http: httpx2.Client

    def get(self, path: str, status: int = 200, **parameters: Any) -> Json:
        return _expect(self.http.get(path, params=parameters or None), status)

    def post(self, path: str, body: Json | None = None, status: int = 201, **parameters: Any) -> Json:
        return _expect(self.http.post(path, json=body, params=parameters or None), status)

    def patch(self, path: str, body: Json, status: int = 200) -> Json:
        return _expect(self.http.patch(path, json=body), status)

    def put(self, path: str, body: Json, status: int = 200) -> Json:
        return _expect(self.http.put(path, json=body), status)

    def delete(self, path: str, **parameters: Any) -> None:
        answer = self.http.delete(path, params=parameters or None)
        assert (answer.status_code, answer.content) == (204, b""), f"DELETE {path}: {answer.status_code} {answer.text}"


def _expect(answer: httpx2.Response, status: int) -> Json:
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    body: Json = answer.json()
    return body


class Given:
    """Creates users, customers, tasks, entries and bills in one installation. All of them are new and belong to one test."""

    def __init__(self, stint: Installation) -> None:
        self.stint = stint
        self._since = datetime.now(UTC)
        self._clients: list[httpx2.Client] = []

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def person(self, role: str = "internal_user", customer_id: str | None = None, email: str | None = None) -> Person:
        """A new user, or the one with that address, with a token of that role (`none`: a token without a role)."""
        email = email or f"{secrets.token_hex(5)}@example.com"
        claim, customer = None if role == "none" else role, UUID(customer_id) if customer_id else None
        token = self.stint.tokens.issue(NewAccount(email, email.partition("@")[0], claim, customer), self.stint.settings)
        return self.with_token(token, email)

    def with_token(self, token: str, email: str = "") -> Person:
        client = self.client({"Authorization": f"Bearer {token}"})
        me = client.get("/api/me")
        return Person(me.json().get("id", ""), email, token, client)

    def client(self, headers: dict[str, str]) -> httpx2.Client:
        """A client of this API that sends these headers."""
        client = httpx2.Client(base_url=self.stint.url, headers=headers, timeout=20)
        self._clients.append(client)
        self.stint.clients.add(client)
        return client

    def people(self, count: int, role: str = "internal_user") -> list[Person]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: self.person(role), range(count)))

    def admin(self) -> Person:
        return self.person("internal_admin")

    def customer(self, by: Person, **more: Any) -> Json:
        return by.post("/api/customers", {"name": f"Customer {secrets.token_hex(4)}", **more})

    def task(self, by: Person, customer: Json | None = None, **more: Any) -> Json:
        customer = customer or self.customer(by)
        return by.post("/api/tasks", {"title": "Migrate the mail server", "customerId": customer["id"], **more})

    def stopped(self, by: Person, task: Json) -> Json:
        """Starts and stops the task's timer, and returns the response to the stop, with `entry` and `timeBill`."""
        by.post(f"/api/tasks/{task['id']}/start", status=201)
        return by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)

    def logged(
        self, by: Person, task: Json | None = None, *, start: str = "2026-03-02T09:00:00Z", minutes: int = 60, **more: Any
    ) -> Json:
        """A time entry by hand, as the response has it; the sum of its bill may not include it yet."""
        task = task or self.task(by)
        body = {"taskId": task["id"], "startTime": start, "duration": minutes * 60, "allowOverlap": True}
        return by.post("/api/time-entries", body | more)

    def entry(self, by: Person, task: Json | None = None, *, start: str = "2026-03-02T09:00:00Z", minutes: int = 60) -> Json:
        """A timer's entry, changed to these times, on a bill whose sum includes it."""
        task = task or self.task(by)
        made = self.stopped(by, task)["entry"]
        end = datetime.fromisoformat(start) + timedelta(minutes=minutes)
        change = {"startTime": start, "endTime": end.strftime("%Y-%m-%dT%H:%M:%SZ"), "allowOverlap": True}
        entry = by.patch(f"/api/time-entries/{made['id']}", change)
        self.settled()
        return by.get(f"/api/time-entries/{entry['id']}")

    def bill(self, by: Person, task: Json | None = None, *, start: str = "2026-03-02T09:00:00Z", minutes: int = 60) -> Json:
        """A pending bill of that many minutes."""
        entry = self.entry(by, task, start=start, minutes=minutes)
        return by.get(f"/api/time-bills/{entry['timeBillId']}")

    def approved_bill(self, by: Person, admin: Person, task: Json | None = None, *, minutes: int = 60) -> Json:
        bill = self.bill(by, task, minutes=minutes)
        return admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})

    def many_bills(self, by: Person, task: Json, count: int, *, seconds: int = 3600, first: str = "2020-01-01") -> list[str]:
        """The ids of `count` pending bills with one entry each, on consecutive days, inserted with SQL in one transaction."""
        made = self.stint.rows(
            """
            WITH days AS (
                SELECT day::date FROM generate_series(%s::date, %s::date + %s - 1, interval '1 day') day
            ), bills AS (
                INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode)
                SELECT %s, %s, %s, day, %s, 1, 'nearest' FROM days RETURNING id, date
            ), entries AS (
                INSERT INTO time_entries
                    (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id)
                SELECT gen_random_uuid(), %s, %s, %s, %s, date + interval '9 hours',
                       date + interval '9 hours' + make_interval(secs => %s), date, id
                FROM bills
            )
            SELECT id::text FROM bills ORDER BY date
            """,
            first, first, count,
            by.id, task["customerId"], task["pillarId"], seconds,
            task["id"], by.id, task["customerId"], task["pillarId"], seconds,
        )  # fmt: skip
        return [bill_id for (bill_id,) in made]

    def code(self, person: Person) -> str:
        """A sign-in code, as the mail to the user has it."""
        return run_apart(_code(self.stint, person.email))

    def settled(self, *, seconds: float = 30) -> None:
        """Waits until the outbox has no unfinished message."""
        # the message that asks Xero what is invoiced always schedules the next one, and that which reads the user pool itself
        unfinished = """
            SELECT count(*) FROM messages
            WHERE state NOT IN ('done', 'dead', 'discarded')
              AND actor NOT IN ('check_access', 'check_invoiced', 'check_slack_access', 'read_user_pool')
        """
        eventually(lambda: self.stint.value(unfinished) == 0, seconds=seconds, why="the outbox is empty")

    def dead_letters(self) -> list[tuple[str, str]]:
        """Actor and error of each dead letter of this test: those of earlier tests on the same installation do not count."""
        return self.stint.rows(
            "SELECT actor, error FROM messages WHERE state = 'dead' AND queue IN ('timers', 'bills') AND created_at >= %s",
            self._since,
        )

    @staticmethod
    def new_id() -> str:
        return str(uuid4())


async def _code(stint: Installation, email: str) -> str:
    asked, settings = SendCode(email=email, asked_at=datetime.now(UTC)), stint.settings
    async with await connect(settings) as conn:
        mail = await sign_in_codes.issue_code(conn, asked, secret_key=settings.secret_key.get_secret_value())
    assert mail is not None, f"{email} may sign in"
    return str(re.findall(r"\b\d{6}\b", " ".join(mail.paragraphs))[0])
