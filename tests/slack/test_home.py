"""App Home, driven as Slack drives it: what a person sees, and what its buttons do."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from tests.slack.approving import statuses
from tests.slack.at_home import AtHome
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox


def test_a_person_starts_switches_and_stops_their_timer_at_home(
    home: AtHome, person: Person, given: Given, customer: Json, stint: Installation
) -> None:
    first = given.task(person, customer, title="Fix <it> & go")
    second = given.task(person, customer, title="Backups")
    shown = home.opened()
    assert "No timer is running." in shown and "Fix &lt;it&gt; &amp; go" in shown and customer["name"] in shown
    assert shown.index("Backups") < shown.index("Fix "), "the newest first, of those without any work"

    home.press("Start", nth=1)
    shown = home.shows("Your timer runs on Fix &lt;it&gt; &amp; go.", "since ", "[Stop]", "[Switch to…]")
    assert person.get("/api/active-timers/me")["taskId"] == first["id"]

    home.pick(second)
    home.shows("Your timer runs on Backups.", "*Backups*")
    stale = dict(home.view)
    home.press("Stop")
    home.shows("Your timer on Backups is stopped", "No timer is running.")
    person.get("/api/active-timers/me", status=404)

    # a button of the view from before: it names a timer that does not run any more
    person.post(f"/api/tasks/{first['id']}/start")
    home.view = stale
    home.press("Stop")
    home.shows("Your timer on Backups is stopped", "*Fix &lt;it&gt; &amp; go*")
    assert person.get("/api/active-timers/me")["taskId"] == first["id"]

    # a Home that has been open for longer than its record is kept
    assert stint.rows("DELETE FROM slack_homes WHERE slack_id = %s RETURNING 1", home.member.id)
    home.press("Stop")
    home.shows("Your timer on Fix &lt;it&gt; &amp; go is stopped", "No timer is running.")


def test_who_may_not_use_stint_reads_why_and_nothing_else(
    slack: SlackSandbox, stint: Installation, person: Person, given: Given, customer: Json
) -> None:
    theirs = given.person("customer_admin", customer["id"])
    given.task(person, customer, title="Secret plan")
    removed = given.person()
    stint.value("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING id", removed.id)
    people = {
        slack.user(theirs.email): "only for the firm's own people",
        slack.user("nobody@example.org"): "does not know the e-mail address nobody@example.org",
        slack.user(removed.email): "does not know the e-mail address",
        slack.user(person.email, teamId="T0OTHER"): "only for members of the firm's own workspace",
        slack.user(person.email, deleted=True): "deactivated",
        slack.user(person.email, bot=True): "Bots have no hours",
    }
    homes = {slack_id: AtHome(Member(slack, stint, slack_id, "D1")) for slack_id in people}
    for home in homes.values():
        home.open()
    for slack_id, reason in people.items():
        shown = homes[slack_id].shows(reason)
        assert shown.count("\n") == 1 and "Secret" not in shown and customer["name"] not in shown

    other = AtHome(Member(slack, stint, slack.user(person.email), "D1"))
    other.open(team="T0OTHER")
    other.open(tab="messages")
    other.opened()
    assert other.published == 1, "neither the event of another workspace nor the other tab has published it"
    # a press by a person who was refused meanwhile: a modal says why
    before = len(slack.views())
    stint.value("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING id", person.id)
    other.press("Start")
    [modal] = eventually(lambda: slack.views()[before:])
    assert "does not know the e-mail address" in modal["blocks"][0]["text"]["text"]
    other.shows("does not know the e-mail address", without="Secret")


def test_double_presses_and_late_retries_change_nothing_twice(
    home: AtHome, person: Person, given: Given, customer: Json, stint: Installation
) -> None:
    for title in ("One", "Two"):
        given.task(person, customer, title=title)
    home.opened()
    trigger = home.member.slack.trigger()["triggerId"]
    with ThreadPoolExecutor(8) as pool:  # the same request, sent again, and other presses
        for press in [pool.submit(home.press, "Start", trigger_id=trigger) for _ in range(4)]:
            press.result()
        for press in [pool.submit(home.press, "Start") for _ in range(4)]:
            press.result()
    home.shows("*Two*", "[Stop]")
    entries = "SELECT count(*) FROM time_entries WHERE user_id = %s"
    assert stint.value(entries, person.id) == 0
    timer = person.get("/api/active-timers/me")

    with ThreadPoolExecutor(4) as pool:
        for press in [pool.submit(home.press, "Stop") for _ in range(4)]:
            press.result()
    shown = home.shows("Your timer on Two is stopped", "No timer is running.")
    eventually(lambda: stint.value(entries, person.id) == 1)
    assert person.get(f"/api/time-entries/{timer['id']}")["taskId"] == timer["taskId"]

    home.open(event_id=f"EvLate{home.member.id}")
    count = eventually(lambda: home.published)
    home.open(event_id=f"EvLate{home.member.id}", event_time=1)
    assert home.shows("No timer is running.").count("\n") >= shown.count("\n") - 1 and home.published >= count


def test_admins_decide_about_bills_at_home(slack: SlackSandbox, stint: Installation, given: Given, person: Person) -> None:
    stint.rows("UPDATE time_bills SET status = 'rejected', rejection_note = 'x' WHERE status = 'pending' RETURNING id")
    customer = given.customer(person)
    ids = given.many_bills(person, given.task(person, customer), 2, first="2026-03-02")
    others = [given.many_bills(person, given.task(person), 1, first="2026-03-02")[0] for _ in range(3)]
    people = [given.admin(), given.admin()]
    first, second = (AtHome(Member(slack, stint, slack.user(admin.email), "D1")) for admin in people)
    assert "5 time bills of days before today to approve: 5:00 h" in first.opened()
    assert "… and" in second.opened() and "[Show all]" in second.look()
    consultant = AtHome(Member(slack, stint, slack.user(person.email), "D1"))
    assert "approve" not in consultant.opened()

    with ThreadPoolExecutor(2) as pool:  # two admins at once, about the same bills
        for press in [pool.submit(home.press, "Approve") for home in (first, second)]:
            press.result()
    done = [home.shows("time bills of days before today to approve", "pproved") for home in (first, second)]
    assert sum("Approved: " in text for text in done) == 1 and sum("approved already, by" in text for text in done) == 1, done
    assert "approved" in statuses(person, [*ids, *others])

    # a bill that has changed since it was shown is not approved
    first.look()
    changed = "UPDATE time_bills SET version = version + 1 WHERE status = 'pending' AND user_id = %s RETURNING id"
    assert stint.rows(changed, person.id)
    before = statuses(person, [*ids, *others])
    first.press("Approve")
    first.shows("It has changed since it was shown")
    assert statuses(person, [*ids, *others]) == before

    views = {view["id"] for view in slack.views()}
    first.press("Reject…")
    [form] = eventually(lambda: [view for view in slack.views() if view["id"] not in views])
    assert first.member.submit(form, reason="Which server?") is None
    first.shows("Rejected: ")
    assert "rejected" in statuses(person, [*ids, *others])

    second.press("Show all") if "[Show all]" in second.look() else second.act({"type": "button", "action_id": "show_bills"})
    second.shows("comes as a direct message")
    [message] = eventually(lambda: slack.messages(second.member.id))
    assert "to approve" in str(message["blocks"])
    consultant.act({"type": "button", "action_id": "show_bills", "value": "all"})
    modal = eventually(lambda: [view for view in slack.views() if "Only an admin" in str(view)])
    assert modal and not any("to approve" in str(message) for message in slack.messages(consultant.member.id))


def test_a_home_tab_that_is_not_turned_on_is_told_to_admins_and_tried_at_intervals(
    home: AtHome, slack: SlackSandbox, stint: Installation, person: Person
) -> None:
    since = stint.value("SELECT clock_timestamp()")
    slack.configure(homeTab=False)
    home.open()
    lost = "SELECT problem FROM slack_access_losses WHERE method = 'views.publish'"
    eventually(lambda: stint.rows(lost) == [("not_enabled",)], why=stint.log("work")[-1500:])
    home.open()
    mails = "SELECT body->>'to' FROM messages WHERE actor = 'send_mail' AND created_at > %s AND body::text LIKE '%%Home Tab%%'"
    told = stint.rows(mails, since)
    assert len(told) == len(set(told))
    left = "SELECT max_attempts - attempts FROM messages WHERE actor = 'publish_home' AND body->>'slack_id' = %s"
    assert set(stint.rows(left, home.member.id)) == {(15,)} and home.published == 0, "no attempt counts"
    slack.configure(homeTab=True)
    home.shows("No timer is running.")
    eventually(lambda: not stint.rows(lost))


def test_a_gap_of_the_last_working_day_is_recorded_at_home(
    home: AtHome, person: Person, given: Given, customer: Json, slack: SlackSandbox, stint: Installation
) -> None:
    person.patch("/api/me/working-hours", {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "hoursPerDay": 7.5})
    task = given.task(person, customer, title="Backups & co")
    zone = ZoneInfo("Europe/Berlin")  # of the member's account
    day = datetime.now(zone).date() - timedelta(days=1)

    def at(hour: int, minute: int = 0) -> str:
        return datetime.combine(day, time(hour, minute), zone).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert "09:00–17:00 Europe/Berlin: 8:00 h without an entry" in home.opened()
    given.logged(person, task, start=at(9), minutes=180)
    given.logged(person, task, start=at(13), minutes=240)
    home.shows("12:00–13:00 Europe/Berlin: 1:00 h without an entry", "of 7:30 h")
    before = {view["id"] for view in slack.views()}
    for _ in range(2):
        home.press("Log…")
    opened = eventually(lambda: len(found := [view for view in slack.views() if view["id"] not in before]) == 2 and found)
    first, second = opened
    assert home.member.get_options("task", view=first)[0]["value"] == task["id"]

    for wrong, field, why in (
        ({"end": first["blocks"][2]["element"]["initial_date_time"]}, "end", "must be after the start"),
        ({"task": None}, "task", "Pick a task"),
        ({"task": str(uuid4())}, "end", "no such task"),
        ({"task": task["id"], "start": None}, "start", "Pick a day and a time"),
        ({"task": task["id"], "end": "99999999999"}, "end", "at most 24 hours ahead"),
    ):
        assert why in home.member.submit(first, **wrong)["errors"][field], wrong
    recorded = home.member.submit(first, task=task["id"], note="Tape 4")
    assert "1 h 0 min are recorded on Backups &amp; co, with your note" in str(recorded["view"]["blocks"])
    assert home.member.submit(first, task=task["id"], note="Tape 4") == recorded, "sent again"
    assert "recorded already" in str(home.member.submit(first, task=task["id"], note="Tape 5")["view"])
    assert "overlaps another entry" in home.member.submit(second, task=task["id"])["errors"]["end"]
    home.shows("Your hours", without="without an entry")
    notes = "SELECT notes FROM time_entries WHERE user_id = %s ORDER BY notes"
    assert stint.rows(notes, person.id) == [("",), ("",), ("Tape 4",)]
