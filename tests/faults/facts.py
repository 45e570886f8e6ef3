"""Compares what exists at the end, over HTTP and in SQL, Xero, Slack and mail, with what responses have acknowledged."""

import re
from collections import Counter
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

from tests.faults.consultants import Expected, Hours
from tests.faults.firm_at_work import FirmAtWork
from tests.faults.people import People
from tests.support.given import Json, Person
from tests.support.installation import eventually
from tests.sync.clients import first_load

# what is meant for much later, such as a nudge about a timer that runs for hours, does not count
UNFINISHED = """
    SELECT actor, state, count(*), max(error) FROM messages
    WHERE state NOT IN ('done', 'discarded') AND actor NOT IN ('check_invoiced', 'nudge_owner')
    GROUP BY 1, 2 ORDER BY 3 DESC
"""


def differences(firm: FirmAtWork, people: People) -> list[str]:
    """A sentence for each difference. Called when all faults are over and the outbox is empty."""
    return [
        *firm.traffic.wrong,
        *people.broken,
        *(sentence for person in people.with_hours for sentence in _hours(firm, person.name, person.by, person.entries)),
        *_nobody_elses(firm, people),
        *_timers(people),
        *_bills(firm, people),
        *_stores(people),
        *_moved(people),
        *_in_xero(firm),
        *_from_slack(firm, people),
        *_invited(firm, people),
        *_told_of_pillars(firm, people),
        *_ledger(firm),
        *_verified(firm),
    ]


def _all(by: Person, path: str, **parameters: Any) -> Iterator[Json]:
    while True:
        answer = by.http.get(path, params={"limit": 1000} | parameters)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
        page = answer.json()
        yield from page["items"]
        if page["nextCursor"] is None:
            return
        parameters["cursor"] = page["nextCursor"]


def _hours(firm: FirmAtWork, name: str, by: Person, entries: dict[str, Expected]) -> Iterator[str]:
    found = {entry["id"]: Hours.of(entry) for entry in _all(by, "/api/time-entries", userId=by.id)}
    for entry_id, expected in entries.items():
        if not expected.allows(found.get(entry_id)):
            yield f"{name}: entry {entry_id} is {found.get(entry_id)}, expected {expected.hours}"
    for entry_id in found.keys() - entries.keys():
        yield f"{name}: entry {entry_id}, {found[entry_id]}, was never promised"


def _nobody_elses(firm: FirmAtWork, people: People) -> Iterator[str]:
    known = [person.by.id for person in people.with_hours]
    rows = firm.stint.rows("SELECT id::text FROM time_entries WHERE user_id <> ALL(%s::uuid[])", known)
    yield from (f"entry {entry_id} is of somebody who has logged nothing" for (entry_id,) in rows)


def _timers(people: People) -> Iterator[str]:
    for person in [*people.consultants, people.mover.consultant]:
        answer = person.by.http.get("/api/active-timers/me")
        found = answer.json()["id"] if answer.status_code == 200 else None
        expected = person.timer["id"] if person.timer else None
        if found != expected:
            yield f"{person.name}: timer {found} runs, expected {expected}"


def _bills(firm: FirmAtWork, people: People) -> Iterator[str]:
    """What was approved is approved, with the figures of the answer; what is approved was, by somebody."""
    approver = people.approver
    found = {bill["id"]: bill for bill in _all(approver.by, "/api/time-bills", status="approved")}
    for bill_id, figures in approver.approved.items():
        bill = found.get(bill_id)
        if bill_id not in approver.maybe and (bill is None or (bill["seconds"], bill["minutes"]) != figures):
            yield f"bill {bill_id} was approved with {figures} seconds and minutes, and is {bill}"
    for bill_id in found.keys() - approver.approved.keys() - approver.maybe:
        yield f"bill {bill_id} is approved, and nobody was told so: {found[bill_id]}"


def _stores(people: People) -> Iterator[str]:
    for desktop in people.desktops:
        desktop.store.sync()
        if not desktop.store.is_as(first_load(desktop.by)):
            yield f"{desktop.name}: what it keeps by syncing is not what a new one gets"


def _moved(people: People) -> Iterator[str]:
    for task_id, place in people.mover.at.items():
        task = people.mover.by.get(f"/api/tasks/{task_id}")
        if (task["customerId"], task["pillarId"]) != place:
            yield f"task {task_id} was moved to {place}, and is at {task['customerId']}, {task['pillarId']}"


def _in_xero(firm: FirmAtWork) -> Iterator[str]:
    """One entry with its minutes for each approved bill that has any, and none for any other."""
    entries = firm.xero.entries()
    found: dict[str, list[Json]] = {}
    for entry in entries:
        marked = re.search(r"\[bill:(\S+)\]", entry["description"])
        found.setdefault(marked[1] if marked else "?", []).append(entry)
    query = "SELECT id::text, status, minutes, xero_status, xero_error FROM time_bills WHERE deleted_at IS NULL"
    for bill_id, status, minutes, xero_status, error in firm.stint.rows(query):
        there = [entry["duration"] for entry in found.pop(bill_id, [])]
        expected = [minutes] if status == "approved" and minutes else []
        if there != expected:
            yield f"bill {bill_id}, {status} ({xero_status}, {error}): {there} minutes in Xero, expected {expected}"
    yield from (f"Xero has an entry of bill {bill_id}, which is not there" for bill_id in found)


def _from_slack(firm: FirmAtWork, people: People) -> Iterator[str]:
    rows = Counter(title for (title,) in firm.stint.rows("SELECT title FROM tasks WHERE source = 'slack'"))
    posts = " ".join(str(message) for message in firm.posts())
    expected = [title for member in people.members for title in member.titles]
    for title in expected:
        if rows.pop(title, 0) != 1:
            yield f"the form {title!r} did not make one task"
        if posts.count(title) == 0:
            yield f"{title!r} was not confirmed in the channel"
    # somebody may have been interrupted between a form that was taken and its answer
    yield from (f"{count} tasks {title!r}" for title, count in rows.items() if count > 1)


def _invited(firm: FirmAtWork, people: People) -> Iterator[str]:
    customer_id = firm.tasks[0]["customerId"]
    listed = Counter(user["email"] for user in _all(people.inviter.by, f"/api/customers/{customer_id}/users"))
    for email in people.inviter.invited:
        if listed[email] != 1:
            yield f"{email} was invited, and is listed {listed[email]} times"
        if not firm.mail.to(email):
            yield f"{email} was invited, and has no mail"


def _told_of_pillars(firm: FirmAtWork, people: People) -> Iterator[str]:
    query = "SELECT email FROM users WHERE starts_with(role, 'internal_') AND revoked_at IS NULL"
    everybody = [email for (email,) in firm.stint.rows(query)]
    mails = [(set(mail.recipients), parseaddr(mail.message["To"])[1], str(mail.message["Subject"])) for mail in firm.mail.mails]
    for name in people.approver.inactive.values():
        told = {address for _, address, subject in mails if name in subject}
        yield from (f"{email} was not told of {name}" for email in everybody if email not in told)


def _ledger(firm: FirmAtWork) -> Iterator[str]:
    for actor, state, count, error in firm.stint.rows(UNFINISHED):
        yield f"{count} messages of {actor} are {state}: {error}"
    rows = firm.stint.rows("SELECT reason, count(*) FROM unrecognized_messages GROUP BY 1")
    yield from (f"{count} unrecognized messages: {reason}" for reason, count in rows)


def _verified(firm: FirmAtWork) -> Iterator[str]:
    result = firm.stint.command("verify")
    if result.returncode != 0:
        yield from (result.stdout + result.stderr).splitlines()


def settle(firm: FirmAtWork, *, seconds: float) -> str:
    """Waits until the outbox is empty, and returns what was left last. Raises AssertionError with what is still left."""
    waiting = UNFINISHED.replace("('done', 'discarded')", "('done', 'discarded', 'dead')").encode()
    last = ""
    with firm.stint.sql() as conn:

        def is_at_rest() -> bool:
            nonlocal last
            rows = conn.execute(waiting).fetchall()
            last = str(rows) if rows else last
            return not rows

        eventually(is_at_rest, seconds=seconds, why="the outbox is empty")
    return last


def replay_the_dead(firm: FirmAtWork) -> int:
    """Replays all dead letters, as the person on call does afterwards; returns how many there were."""
    count = int(firm.stint.value("SELECT count(*) FROM messages WHERE state = 'dead'"))
    if count:
        result = firm.stint.command("dead", "replay", "--all", "--reason", "the weather is fair again")
        assert result.returncode == 0, result.stdout + result.stderr
        settle(firm, seconds=60)
    return count
