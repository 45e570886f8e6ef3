"""The API is killed under load repeatedly: what it answered is stored, and unanswered requests can be repeated safely."""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx2
import pytest

from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.sizes import API_KILLS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENTS = 4
DAY = "2026-03-02"


@pytest.fixture
def running(own: Installation) -> Iterator[Given]:
    own.start("api", "relay", "work").wait_until_ready()
    given = Given(own)
    yield given
    given.close()


@dataclass
class Client:
    """A client that sends one request after the other, repeats unanswered ones, and keeps every response."""

    person: Person
    task: Json
    customer: Json
    bills: list[str]  # pending ones, of this client alone
    over: threading.Event
    stops: dict[str, Json] = field(default_factory=dict)
    entries: dict[str, Json] = field(default_factory=dict)
    approved: list[Json] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    repeated: int = 0

    def work(self) -> None:
        turns = (self.stop, self.log_by_hand, self.correct, self.approve, self.invite)
        for turn in range(10**6):
            if self.over.is_set():
                return
            turns[turn % len(turns)]()

    def insist(self, ask: Callable[[], httpx2.Response]) -> tuple[httpx2.Response, bool]:
        """The answer, and whether it was asked for more than once: then an earlier request may have been carried out."""
        for attempt in range(10_000):
            try:
                answer = ask()
                if answer.status_code != 503:
                    return answer, attempt > 0
            except httpx2.TransportError:
                self.repeated += 1
            time.sleep(0.2)
        raise AssertionError("no answer")

    def stop(self) -> None:
        path = f"/api/tasks/{self.task['id']}"
        answer, _ = self.insist(lambda: self.person.http.post(f"{path}/start"))
        assert answer.status_code in (200, 201), answer.text
        first, _ = self.insist(lambda: self.person.http.post(f"{path}/stop"))
        again, _ = self.insist(lambda: self.person.http.post(f"{path}/stop"))
        assert (first.status_code, again.status_code) == (202, 202) and first.json() == again.json(), (first.text, again.text)
        self.stops[first.json()["entryId"]] = first.json()

    def log_by_hand(self) -> None:
        body = {
            "id": Given.new_id(), "taskId": self.task["id"], "startTime": f"{DAY}T09:00:00Z",
            "duration": random.randrange(60, 3600), "allowOverlap": True,
        }  # fmt: skip
        for _ in range(2):
            answer, _ = self.insist(lambda: self.person.http.post("/api/time-entries", json=body))
            assert answer.status_code in (200, 201), answer.text
        self.entries[str(body["id"])] = body

    def correct(self) -> None:
        """PATCH by version: a conflict may be one with the client's own request, whose answer was lost."""
        body = random.choice(list(self.entries.values()))
        path = f"/api/time-entries/{body['id']}"
        now, _ = self.insist(lambda: self.person.http.get(path))
        change: Json = {
            "duration": random.randrange(60, 3600),
            "allowOverlap": True,
            "version": now.json()["version"],
        }
        answer, again = self.insist(lambda: self.person.http.patch(path, json=change))
        if answer.status_code == 409 and again:
            assert answer.json()["current"]["duration"] == change["duration"], answer.text
        else:
            assert answer.status_code == 200, answer.text
        body["duration"] = change["duration"]

    def approve(self) -> None:
        if not self.bills:
            return
        path = f"/api/time-bills/{self.bills.pop()}"
        seen, _ = self.insist(lambda: self.person.http.get(path))
        change = {"status": "approved", "version": seen.json()["version"]}
        answer, again = self.insist(lambda: self.person.http.patch(path, json=change))
        if answer.status_code == 409 and again:
            now, _ = self.insist(lambda: self.person.http.get(path))
            assert now.json()["status"] == "approved", answer.text
            self.approved.append(now.json())
        else:
            assert answer.status_code == 200, answer.text
            self.approved.append(answer.json())

    def invite(self) -> None:
        email = f"{secrets.token_hex(6)}@example.com"
        body = {"email": email, "name": "Somebody", "role": "customer_user"}
        path = f"/api/customers/{self.customer['id']}/users/invite"
        answer, again = self.insist(lambda: self.person.http.post(path, json=body))
        assert answer.status_code == 201 or (answer.status_code == 409 and again), answer.text
        self.invited.append(email)


def test_every_answer_of_a_killed_api_holds_and_every_repetition_is_harmless(running: Given) -> None:
    stint, seed = running.stint, random.randrange(10**6)
    print("seed", seed)
    chance, over = random.Random(seed), threading.Event()
    clients = []
    for _ in range(CLIENTS):
        admin = running.admin()
        customer = running.customer(admin)
        task = running.task(admin, customer)
        bills = running.many_bills(admin, task, 300)
        clients.append(Client(admin, task, customer, bills, over))
    given_bills = [bill for client in clients for bill in client.bills]

    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(client.work) for client in clients]
        try:
            for _ in range(API_KILLS):
                done = [len(client.stops) + len(client.invited) for client in clients]
                eventually(lambda done=done: has_gone_on(clients, done, working), seconds=60, why="work goes on")
                time.sleep(chance.uniform(0, 0.3))
                stint.kill("api")
                stint.start("api").wait_until_ready()
        finally:
            over.set()
        for future in working:
            future.result()

    running.settled(seconds=60)
    repeated = sum(client.repeated for client in clients)
    print(f"{API_KILLS} kills, {repeated} requests without an answer, {sum(len(client.stops) for client in clients)} stops")
    assert repeated >= API_KILLS
    check(stint, clients, given_bills)


def has_gone_on(clients: list[Client], before: list[int], working: list[Future[None]]) -> bool:
    for future in working:
        if future.done():
            future.result()  # raises what went wrong
    return all(len(client.stops) + len(client.invited) > count for client, count in zip(clients, before, strict=True))


def check(stint: Installation, clients: list[Client], given_bills: list[str]) -> None:
    """Exactly what was answered is there: neither less, nor anything twice."""
    for client in clients:
        me = client.person.id
        made = stint.rows(
            "SELECT id::text, duration FROM time_entries WHERE user_id = %s AND NOT (bill_id = ANY(%s::uuid[]))",
            me,
            given_bills,
        )
        answered = {entry_id: stop["duration"] for entry_id, stop in client.stops.items()}
        assert dict(made) == answered | {entry_id: entry["duration"] for entry_id, entry in client.entries.items()}
        frozen = stint.rows("SELECT id::text, minutes, version FROM time_bills WHERE user_id = %s AND status = 'approved'", me)
        assert sorted(frozen) == sorted((bill["id"], bill["minutes"], bill["version"]) for bill in client.approved)
        mails = "SELECT count(*) FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s"
        for email in client.invited:
            assert stint.value("SELECT count(*) FROM users WHERE email = %s", email) == 1
            assert stint.value(mails, email) == 1, email
    stint.verify()
