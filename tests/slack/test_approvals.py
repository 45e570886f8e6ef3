"""Approving time bills in Slack: what an admin sees, presses and reads, and what a bill's owner reads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.checks import check_message
from schemas.messages import TellRejection
from schemas.postgres.connection import Connection
from schemas.slack.approvals import blocks as approval_blocks
from schemas.slack.approvals import pending, seen
from tests.outbox import probe
from tests.outbox.rows import over
from tests.slack.approving import admin_in, as_text, button, channel_of, opened, pressed, shown, statuses, updated
from tests.support import firm_rows
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually, new_database
from tests.support.slack_sandbox import Member, SlackSandbox

SYNCS = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = ANY(%s)"


@pytest.fixture
def task(given: Given, person: Person, customer: Json) -> Json:
    return given.task(person, customer)


@pytest.fixture
def channel(slack: SlackSandbox, person: Person, customer: Json) -> str:
    """A channel that is mapped to the customer."""
    return channel_of(customer, person, slack)


@pytest.fixture
def approver(channel: str, slack: SlackSandbox, stint: Installation, given: Given) -> Member:
    """An admin in that channel."""
    return admin_in(channel, slack, stint, given)[1]


@pytest.fixture
def owner(slack: SlackSandbox, stint: Installation, person: Person) -> Member:
    """The consultant, in Slack."""
    return Member(slack, stint, slack.user(person.email), slack.channel())


def rejections(owner: Member, count: int = 1) -> list[Json]:
    """The messages to the owner of rejected bills, as soon as there are that many."""
    eventually(lambda: len(owner.slack.messages(owner.id)) >= count, why=owner.stint.log("work")[-1500:])
    return owner.slack.messages(owner.id)


def test_an_admin_sees_the_bills_of_earlier_days_and_approves_them(
    approver: Member, person: Person, given: Given, task: Json, customer: Json, stint: Installation
) -> None:
    ids = given.many_bills(person, task, 2, seconds=5400, first="2026-03-02")
    given.stopped(person, task)  # today's bill is not ready yet

    answer = approver.run_command("approve")

    assert answer["response_type"] == "ephemeral"
    text = shown(answer["blocks"])
    assert "2 time bills of days before today to approve: 3:00 h" in text
    assert f"*{person.email.partition('@')[0]}* for *{customer['name']}*: 3:00 h in 2 time bills" in text
    assert f"Mon 2026-03-02, General Support: 1:30 h · <https://app.example/time-bills/{ids[0]}|Open>" in text
    assert "overlap" not in text

    now = updated(approver, pressed(approver, answer["blocks"], "Approve"))

    assert "Approved: 2 time bills" in shown(now) and "3:00 h." in shown(now) and "nothing to approve" in shown(now)
    assert statuses(person, ids) == ["approved"] * 2
    assert stint.value(SYNCS, ids) == 2

    # the message may be shown somewhere else still: a second press says what happened
    again = updated(approver, pressed(approver, answer["blocks"], "Approve"))
    assert "Not approved: Mon 2026-03-02" in shown(again) and "approved already, by you" in shown(again)
    assert stint.value(SYNCS, ids) == 2


def test_entries_that_overlap_are_named(approver: Member, person: Person, given: Given, task: Json) -> None:
    given.logged(person, task, start="2026-03-02T09:00:00Z")
    given.logged(person, task, start="2026-03-02T09:30:00Z")

    answer = approver.run_command("approve")

    assert "2 entries overlap" in shown(answer["blocks"])


def test_a_bill_that_has_changed_is_not_approved_and_is_shown_again(
    approver: Member, person: Person, given: Given, task: Json
) -> None:
    changed, described, same = given.many_bills(person, task, 3, first="2026-03-02")
    answer = approver.run_command("approve")
    person.patch(f"/api/time-bills/{described}", {"memo": "Moved the mail server"})
    given.logged(person, task, start="2026-03-02T14:00:00Z", minutes=30)

    now = updated(approver, pressed(approver, answer["blocks"], "Approve"))

    assert statuses(person, [changed, described, same]) == ["pending", "pending", "approved"]
    assert "Approved: 1 time bill of" in shown(now) and "Not approved: Tue 2026-03-03" in shown(now)
    assert "Not approved: Mon 2026-03-02" in shown(now) and "changed since it was shown" in shown(now)
    assert "in 2 time bills\n" in shown(now)

    eventually(lambda: person.get(f"/api/time-bills/{changed}")["minutes"] == 90)
    now = approver.run_command("approve")["blocks"]
    assert "2:30 h in 2 time bills\n" in shown(now)
    after = updated(approver, pressed(approver, now, "Approve"))
    assert "Approved: 2 time bills of" in shown(after) and "2:30 h." in shown(after)
    assert statuses(person, [changed, described]) == ["approved"] * 2


def test_two_admins_and_repeated_presses_approve_each_bill_once(
    approver: Member, channel: str, slack: SlackSandbox, person: Person, given: Given, task: Json, stint: Installation
) -> None:
    ids = given.many_bills(person, task, 5, first="2026-03-02")
    other = admin_in(channel, slack, stint, given)[1]
    lists = [member.run_command("approve")["blocks"] for member in (approver, other)]
    found = button(lists[0], "Approve")
    trigger = slack.trigger()
    repeated = approver.press_request(found["action_id"], found["value"], None, trigger)

    with ThreadPoolExecutor(4) as pool:
        presses = [pool.submit(approver.post_request, repeated) for _ in range(3)]
        path = pool.submit(pressed, other, lists[1], "Approve").result()
        assert [press.result().status_code for press in presses] == [200] * 3

    texts = [shown(updated(approver, trigger["path"])), shown(updated(other, path))]
    assert sorted("Approved: 5 time bills" in text for text in texts) == [False, True]
    assert sorted("approved already, by" in text for text in texts) == [False, True]
    assert statuses(person, ids) == ["approved"] * 5
    assert stint.value(SYNCS, ids) == 5
    assert stint.value("SELECT count(*) FROM messages WHERE body->>'response_url' LIKE %s", f"%{trigger['path']}") == 1


def test_an_admin_rejects_some_of_the_bills_and_their_owner_reads_why(
    approver: Member, owner: Member, person: Person, given: Given, task: Json, customer: Json
) -> None:
    ids = given.many_bills(person, task, 3, first="2026-03-02")
    answer = approver.run_command("approve")

    view = opened(approver, answer["blocks"])
    assert [option["text"]["text"] for option in view["blocks"][1]["element"]["options"]] == [
        "Mon 2026-03-02, 1:00 h, General Support",
        "Tue 2026-03-03, 1:00 h, General Support",
        "Wed 2026-03-04, 1:00 h, General Support",
    ]
    options = [option["value"] for option in view["blocks"][1]["element"]["options"]]
    assert approver.submit(view, reason="  ")["errors"] == {"reason": "Write why, in at most 2,000 characters."}
    assert list(approver.submit(view, bills="", reason="Why?")["errors"]) == ["bills"]
    assert statuses(person, ids) == ["pending"] * 3
    sent = approver.submit_request(view, bills=options[1], reason="Which server? <b> & more")
    assert [approver.send(sent) for _ in range(3)] == [None] * 3

    assert statuses(person, ids) == ["pending", "rejected", "pending"]
    assert person.get(f"/api/time-bills/{ids[1]}")["rejectionNote"] == "Which server? <b> & more"
    [message] = rejections(owner)
    text = shown(message["blocks"])
    assert "rejected your time bill of Tue 2026-03-03, 1:00 h" in text and customer["name"] in text
    assert "Why: Which server? <b> & more" in text
    assert f"<https://app.example/time-bills/{ids[1]}|Open the time bill>" in text
    answers = eventually(lambda: [answer for answer in approver.slack.answers() if customer["name"] in answer["text"]])
    [now] = [answer["blocks"] for answer in answers]
    assert "Rejected: 1 time bill" in shown(now) and "2 time bills of days before" in shown(now)


def test_a_bill_that_changes_before_it_is_rejected_stays_pending(
    approver: Member, owner: Member, person: Person, given: Given, task: Json
) -> None:
    changed, same = given.many_bills(person, task, 2, first="2026-03-02")
    answer = approver.run_command("approve")
    view = opened(approver, answer["blocks"])
    person.patch(f"/api/time-bills/{changed}", {"memo": "Moved the mail server"})

    said = approver.submit(view, reason="No memo")

    assert said["response_action"] == "update"
    assert "Not rejected: Mon 2026-03-02" in as_text(said) and "Rejected: 1 time bill" in as_text(said)
    assert statuses(person, [changed, same]) == ["pending", "rejected"]
    # the button still has the old versions: the form leaves out what has changed
    path = pressed(approver, answer["blocks"], "Reject…")
    now = updated(approver, path)
    assert "has changed since it was shown" in shown(now) and "It is rejected meanwhile." in shown(now)


def test_others_than_admins_approve_and_reject_nothing(
    approver: Member, owner: Member, person: Person, given: Given, task: Json
) -> None:
    ids = given.many_bills(person, task, 1, first="2026-03-02")
    listed = approver.run_command("approve")["blocks"]
    view = opened(approver, listed)

    assert owner.run_command("approve")["text"] == "Only an admin can approve or reject time bills."
    for label in ("Approve", "Reject…"):
        assert "Only an admin" in owner.wait_for_answer(pressed(owner, listed, label))
    assert "Only an admin" in as_text(owner.submit(view, reason="Why?")["errors"])
    assert statuses(person, ids) == ["pending"]


def test_a_customers_channel_shows_and_changes_no_bill_of_another_customer(
    approver: Member, channel: str, slack: SlackSandbox, stint: Installation, person: Person, given: Given, task: Json
) -> None:
    own = given.many_bills(person, task, 1, first="2026-03-02")
    hidden = given.customer(person, name=f"Hidden customer {given.new_id()}")
    others = given.many_bills(person, given.task(person, hidden), 1, first="2026-03-02")
    elsewhere = Member(slack, stint, approver.id, channel_of(hidden, person, slack))
    forged = elsewhere.run_command("approve")["blocks"]
    view = opened(elsewhere, forged)

    assert "Hidden" not in as_text(approver.run_command("approve"))
    for label in ("Approve", "Reject…"):
        now = updated(approver, pressed(approver, forged, label))
        assert "no such time bill here" in shown(now) and "Hidden" not in as_text(now)
    metadata = view["private_metadata"].replace(elsewhere.channel, channel)
    said = approver.submit(view | {"private_metadata": metadata}, reason="Why?")
    assert "no such time bill here" in as_text(said) and "Hidden" not in as_text(said)
    assert statuses(person, own + others) == ["pending"] * 2


def test_a_rejection_over_the_api_reaches_the_owner_once(
    owner: Member, person: Person, given: Given, task: Json, stint: Installation, customer: Json
) -> None:
    admin = given.admin()
    [bill] = given.many_bills(person, task, 1, first="2026-03-02")
    admin.patch(f"/api/time-bills/{bill}", {"status": "rejected", "rejectionNote": "&" * 2000})

    [message] = rejections(owner)
    assert admin.email.partition("@")[0] in shown(message["blocks"]) and "&" * 2000 in shown(message["blocks"])

    # a copy of the message, and one of a rejection that is not the latest one
    rejected = admin.get(f"/api/time-bills/{bill}")
    told = {"bill_id": UUID(bill), "rejected_by": UUID(admin.id)}
    admin.patch(f"/api/time-bills/{bill}", {"status": "pending"})
    with stint.sql() as conn:
        [late] = probe.enqueue(conn, TellRejection(version=rejected["version"], **told))
    eventually(lambda: stint.value("SELECT state FROM messages WHERE id = %s", late) == "done")
    admin.patch(f"/api/time-bills/{bill}", {"status": "rejected", "rejectionNote": "Once more"})
    with stint.sql() as conn:
        [late] = probe.enqueue(conn, TellRejection(version=rejected["version"], **told))
    eventually(lambda: stint.value("SELECT state FROM messages WHERE id = %s", late) == "done")
    assert ["Once more" in shown(message["blocks"]) for message in rejections(owner, 2)] == [False, True]


@pytest.mark.parametrize(
    ("fault", "state", "posts"),
    [({"kind": "status", "status": 503}, "done", 1), ({"kind": "drop_before"}, "dead", 0), ({"kind": "drop_after"}, "dead", 1)],
)
def test_a_direct_message_whose_answer_is_lost_is_not_sent_again(
    fault: dict[str, Any], state: str, posts: int, owner: Member, person: Person, given: Given, task: Json, stint: Installation
) -> None:
    [bill] = given.many_bills(person, task, 1, first="2026-03-02")
    owner.slack.inject_fault(path="chat.postMessage", count=1, **fault)
    given.admin().patch(f"/api/time-bills/{bill}", {"status": "rejected", "rejectionNote": "Why?"})

    query = "SELECT state FROM messages WHERE actor = 'tell_rejection' AND body->>'bill_id' = %s"
    eventually(lambda: stint.value(query, bill) == state, why=stint.log("work")[-1500:])
    assert len(owner.slack.messages(owner.id)) == posts


def test_a_direct_message_waits_while_slack_gives_no_access(
    owner: Member, person: Person, given: Given, task: Json, stint: Installation
) -> None:
    [bill] = given.many_bills(person, task, 1, first="2026-03-02")
    owner.slack.configure(refused={"users.lookupByEmail": {"error": "missing_scope", "needed": "users:read.email"}})
    given.admin().patch(f"/api/time-bills/{bill}", {"status": "rejected", "rejectionNote": "Why?"})
    eventually(lambda: stint.value("SELECT count(*) FROM slack_access_losses WHERE method = 'users.lookupByEmail'") == 1)

    owner.slack.configure(refused={})
    assert len(rejections(owner)) == 1


def test_a_direct_message_waits_for_its_turn_to_look_up_its_recipient(
    owner: Member, person: Person, given: Given, task: Json, stint: Installation
) -> None:
    [bill] = given.many_bills(person, task, 1, first="2026-03-02")
    asked = len(owner.slack.calls("users.lookupByEmail"))
    with stint.sql() as conn:
        conn.execute(
            """
            INSERT INTO rate_limits (key, refilled_at) VALUES ('slack-look-ups:', clock_timestamp() + interval '1 hour')
            ON CONFLICT (key) DO UPDATE SET refilled_at = excluded.refilled_at
            """
        )
    try:
        given.admin().patch(f"/api/time-bills/{bill}", {"status": "rejected", "rejectionNote": "Why?"})
        of_the_bill = "actor = 'tell_rejection' AND body->>'bill_id' = %s"
        waits = f"SELECT attempts FROM messages WHERE {of_the_bill} AND delivery_number > 0 AND state = 'ready'"
        assert eventually(lambda: stint.rows(waits, bill)) == [(0,)]
        assert len(owner.slack.calls("users.lookupByEmail")) == asked and owner.slack.messages(owner.id) == []
    finally:
        with stint.sql() as conn:
            conn.execute("DELETE FROM rate_limits WHERE key = 'slack-look-ups:'")
            conn.execute("UPDATE messages SET available_at = now() WHERE actor = 'tell_rejection' AND state = 'ready'")
    assert len(rejections(owner)) == 1


def test_buttons_and_forms_with_other_values_change_nothing(approver: Member, owner: Member) -> None:
    for value in ("", "nothing", "x" * 2000, "A" * 22 + ".0", "A" * 22 + "." + "9" * 30):
        for action in ("approve_bills", "reject_bills"):
            assert "does not belong" in approver.wait_for_answer(approver.press(action, value))
    unknown = approver.press("approve_bills", "A" * 22 + ".7")
    assert "no such time bill" in shown(updated(approver, unknown))
    view = {"id": "V0", "callback_id": "reject_bills", "blocks": []}
    for metadata in ("", "{}", '{"response_url": "https://evil.example/x"}'):
        forged = requests.submission(view | {"private_metadata": metadata}, {}, user=approver.id, trigger_id="1.1.1")
        assert approver.post_request(forged).status_code == 400


def test_a_list_of_thousands_of_bills_with_long_names_fits_into_one_message(database_url: str) -> None:
    async def fill(conn: Connection) -> list[pending.PendingBill]:
        for _ in range(30):
            rows = await firm_rows.firm(conn, name="&" * 200)
            await conn.execute("UPDATE users SET name = %s WHERE id = %s", ("<" * 200, rows.user))
            await conn.execute("UPDATE pillars SET name = %s WHERE id = %s", (">" * 200, rows.pillar))
            await firm_rows.bill(conn, rows)
        await conn.execute(
            """
            INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode)
            SELECT user_id, customer_id, pillar_id, date - n, 3600, 1, 'nearest' FROM time_bills, generate_series(1, 99) n
            """
        )
        return await pending.list_pending(conn, zone="UTC", only_customer=None)

    bills = over(new_database(database_url), fill)
    text, blocks = approval_blocks.bill_list(bills, note="&" * 1500, app_url="https://app.example")

    check_message(blocks)
    listed = [bill for block in blocks if block["type"] == "actions" for bill in seen.parse(block["elements"][0]["value"])]
    assert text.startswith("3,000 time bills") and len(listed) >= 10
    assert f"and {3000 - len(listed):,} more" in shown(blocks)
    assert f"{len(listed)} of them here" in shown(blocks) or len(blocks) > 6
