"""Mixed work with a known outcome while networks fail: clients repeat requests until they are answered."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from ops.sandbox.slack import requests
from schemas.messages import SendMail
from tests.faults.proxy import Proxy, wired
from tests.outbox import probe
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox, running_slack_sandbox
from tests.support.smtp import MailServer, mail_server
from tests.support.xero_sandbox import running_xero

WIRES = ("DATABASE_URL", "AMQP_URL", "XERO_API_URL", "SLACK_API_URL", "SMTP_URL")
# what takes minutes in production takes seconds in a test
SHORT_WAITS = {
    "STINT_RETRY_BASE_SECONDS": "0.5",
    "STINT_STATEMENT_SECONDS": "6",
    "STINT_SENT_SECONDS": "10",
    "STINT_MAIL_SECONDS": "2",
    "STINT_XERO_CALL_SECONDS": "2",
    "STINT_XERO_LATE_SECONDS": "3",
    "STINT_XERO_LAG_SECONDS": "1",
    "XERO_CALLS_PER_MINUTE": "6000",
}
PARTS = ("relay", "work:timers,bills", "work:xero,slack,mail")
PEOPLE = 3
INSIST_SECONDS = 30


@dataclass
class Mixed:
    """A running Stint with a proxy in front of each server, users who work, and what the API acknowledged to them."""

    stint: Installation
    wires: dict[str, Proxy]
    firm: Firm
    slack: SlackSandbox
    post: MailServer
    people: list[Person]
    members: list[Member]
    refused: Counter[int] = field(default_factory=Counter)  # answers that were not taken for one
    stops: dict[str, Json] = field(default_factory=dict)
    approved: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    def work(self) -> None:
        """One round of work: a start and a stop for each user, a task from Slack, a mail, an approval."""
        with ThreadPoolExecutor(2 * PEOPLE) as pool:
            stopping = [pool.submit(self._stop, person) for person in self.people]
            creating = [pool.submit(self._create, member) for member in self.members]
            self._mail()
            self._approve()
            for done in (*stopping, *creating):
                done.result()

    def work_until(self, over: Callable[[], bool]) -> None:
        """Rounds of work, at the pace at which Slack's channels can follow."""
        while not over():
            self.work()
            time.sleep(1)

    def _stop(self, person: Person) -> None:
        task = self.firm.task["id"]
        assert self._insist(lambda: person.http.post(f"/api/tasks/{task}/start")).status_code in (200, 201)
        stop = self._insist(lambda: person.http.post(f"/api/tasks/{task}/stop"))
        assert stop.status_code == 202, stop.text
        self.stops[stop.json()["entryId"]] = stop.json()

    def _create(self, member: Member) -> None:
        """A form that was open already is sent: Slack sends a button's press once, and people press again when told so."""
        title = f"Task {secrets.token_hex(6)}"
        view = {
            "id": f"V{title[5:].upper()}",
            "type": "modal",
            "callback_id": "create_task",
            "private_metadata": f'{{"channel_id": "{member.channel}", "customer_id": "{self.firm.customer["id"]}"}}',
            "blocks": [
                {"type": "input", "block_id": "title", "element": {"type": "plain_text_input", "action_id": "title"}},
                {"type": "input", "block_id": "customer", "element": {"type": "external_select", "action_id": "customer"}},
            ],
        }
        sent = requests.submission(
            view, {"title": title, "customer": self.firm.customer["id"]}, user=member.id, trigger_id=""
        )  # fmt: skip
        ends = time.monotonic() + INSIST_SECONDS
        while member.send(sent) is not None:  # it says sorry, in time
            assert time.monotonic() < ends, "apologies for too long"
            time.sleep(0.2)
        self.titles.append(title)

    def _mail(self) -> None:
        address = f"{secrets.token_hex(6)}@example.com"
        with self.stint.sql() as conn:
            probe.enqueue(conn, SendMail(to=address, subject="Hello", paragraphs=("It rains.",)))
        self.addresses.append(address)

    def _approve(self) -> None:
        number = len(self.approved)
        day = f"{2001 + number // 28}-02-{number % 28 + 1:02}"
        [bill] = self.firm.given.many_bills(self.firm.by, self.firm.task, 1, first=day)
        path = f"/api/time-bills/{bill}"
        answer = self._insist(lambda: self.firm.admin.http.patch(path, json={"status": "approved"}))
        assert answer.status_code in (200, 409), answer.text  # 409: it was approved, and the answer got lost
        self.approved.append(bill)

    def _insist(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        ends = time.monotonic() + INSIST_SECONDS
        while True:
            answer = ask()
            if answer.status_code < 500:
                return answer
            self.refused[answer.status_code] += 1
            assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
            assert time.monotonic() < ends, f"503 for {INSIST_SECONDS} s: {answer.text}"
            time.sleep(0.2)

    def check(self, *, seconds: float = 90) -> None:
        """Asserts that everything acknowledged exists once when the outbox is empty, and that no process was restarted."""
        stint = self.stint
        try:
            eventually(lambda: not self._under_way(), seconds=seconds)
        except AssertionError:
            raise AssertionError(f"not at rest after {seconds} s: {self._under_way()}") from None
        assert all(stint.is_running(name) for name in stint.processes)
        assert stint.rows("SELECT actor, error FROM messages WHERE state = 'dead'") == []
        promised = {stop["entryId"]: stop["duration"] for stop in self.stops.values()}
        made = "SELECT id::text, duration FROM time_entries WHERE id IN (SELECT (body->>'entry_id')::uuid FROM messages)"
        assert dict(stint.rows(made)) == promised
        assert sorted(self._posted()) == sorted(self.titles)
        assert set(self.post.recipients()) == set(self.addresses)
        approved = stint.rows("SELECT id::text FROM time_bills WHERE status = 'approved'")
        assert {bill for (bill,) in approved} == set(self.approved)
        assert len({mail.message["Message-ID"] for mail in self.post.mails}) == len(self.addresses)
        assert len(self.firm.entries()) == len(self.approved)
        self.firm.check()

    def _under_way(self) -> list[tuple[object, ...]]:
        """What is to be done now; nudges, and the next look at invoices, are for later."""
        return self.stint.rows(
            """
            SELECT actor, state, count(*), max(attempts), max(available_at) FROM messages
            WHERE state NOT IN ('done', 'dead', 'discarded') AND actor NOT IN ('check_invoiced', 'nudge_owner')
            GROUP BY actor, state
            """
        )

    def _posted(self) -> list[str]:
        """The tasks that were confirmed in channels, once for each message there."""
        titles = dict(self.stint.rows("SELECT id::text, title FROM tasks WHERE source = 'slack'"))
        assert sorted(titles.values()) == sorted(self.titles)
        return [titles[task] for message in self.slack.messages() for task in titles if task in str(message)]


@contextmanager
def mixed(database_url: str, amqp_url: str, directory: Path) -> Iterator[Mixed]:
    """One such Stint, whose own tests look at it past the wires."""
    with ExitStack() as stack:
        xero, slack, post = (
            stack.enter_context(running_xero()),
            stack.enter_context(running_slack_sandbox()),
            stack.enter_context(mail_server()),
        )
        environment = xero.environment | slack.environment | SHORT_WAITS | {"SMTP_URL": post.url}
        stint = Installation(database_url, f"{amqp_url}?heartbeat=2", directory, **environment)
        stack.callback(stint.stop)
        wires = stack.enter_context(wired(stint.environment, *WIRES))
        stint.start("api", *PARTS).wait_until_ready()
        given = Given(stint)
        stack.callback(given.close)
        xero.disable_limits()
        slack.configure(channelSeconds=0.1)
        firm = Firm.new(stint, xero, given)
        people = given.people(PEOPLE)
        members = [Member(slack, stint, slack.user(person.email), slack.channel()) for person in people]
        for member in members:
            body = {"channelId": member.channel, "channelName": "acme", "customerId": firm.customer["id"]}
            firm.admin.post("/api/slack/channel-mappings", body)
            hook = f"http://127.0.0.1:{wires['SLACK_API_URL'].port}{slack.trigger()['path']}"
            member.send(member.command_request("status", response_url=hook))  # from now on Stint knows who that is
        yield Mixed(stint, wires, firm, slack, post, people, members)
