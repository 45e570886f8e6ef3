"""In Slack, an inactive customer takes no new tasks and timers, and a running timer on its task can be stopped."""

from tests.slack.test_tasks import mapped, tasks_of
from tests.support.given import Given, Json, Person
from tests.support.slack_sandbox import Member, texts


def set_active(by: Person, customer: Json, active: bool) -> None:
    by.put(f"/api/customers/{customer['id']}", {"active": active})


def test_its_channel_gets_no_form(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)
    set_active(person, customer, False)
    before = len(member.slack.views())

    answer = member.run_command("Renew the certificate")

    assert f"{customer['name']}, who is inactive and takes no new tasks" in texts(answer)
    assert len(member.slack.views()) == before


def test_it_is_not_offered_and_a_form_that_was_open_before_is_refused(member: Member, person: Person, customer: Json) -> None:
    view = member.open_form("Renew the certificate")
    assert member.get_options("customer", customer["name"], view=view) != []
    set_active(person, customer, False)

    assert member.get_options("customer", customer["name"], view=view) == []
    refused = member.submit(view, customer=customer["id"])

    assert refused is not None and "inactive" in str(refused)
    assert tasks_of(person, customer) == []


def test_no_timer_starts_on_its_tasks_and_the_one_that_runs_stops(
    member: Member, person: Person, customer: Json, given: Given
) -> None:
    task = given.task(person, customer)
    assert [option["value"] for option in member.get_options("task", task["title"])] == [task["id"]]
    person.post(f"/api/tasks/{task['id']}/start")
    set_active(person, customer, False)

    assert member.get_options("task", task["title"]) == []
    assert "is stopped" in texts(member.run_command("stop"))
    assert "inactive" in member.wait_for_answer(member.press("start_timer", task["id"]))
    assert person.http.get("/api/active-timers/me").status_code == 404
