"""The working hours in each person's profile: their own values and the firm's."""

import json
from typing import Any

import pytest

from tests.support.answers import Json, refused_fields
from tests.support.apis import Another
from tests.support.given import Given, Person
from tests.support.installation import CHECKOUT
from tests.support.pages import sample

PATH = "/api/me/working-hours"
FIRM: Json = {
    "days": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00", "hoursPerDay": 8, "reminders": False,
    "daysOff": [], "timeZone": "UTC", "fromFirm": ["days", "start", "end", "hoursPerDay", "reminders"],
}  # fmt: skip


def test_what_a_person_has_not_set_is_the_firms_value(given: Given, another: Another) -> None:
    by, other = given.people(2)
    assert by.get(PATH) == FIRM
    changed = by.patch(PATH, {"days": ["fri", "mon", "fri"], "end": "17:30", "hoursPerDay": 7.5, "reminders": True})
    own = {"days": ["mon", "fri"], "end": "17:30", "hoursPerDay": 7.5, "reminders": True, "fromFirm": ["start"]}
    assert changed == by.get(PATH) == FIRM | own
    assert other.get(PATH) == FIRM

    settings = {
        "STINT_WORKING_DAYS": "sun-thu", "STINT_WORKING_HOURS": "08:00-16:00", "STINT_HOURS_A_DAY": "6",
        "STINT_REMINDERS": "on", "STINT_TIMEZONE": "Europe/Berlin",
    }  # fmt: skip
    elsewhere = Given(another(**settings))
    firm = {
        "days": ["mon", "tue", "wed", "thu", "sun"], "start": "08:00", "end": "16:00", "hoursPerDay": 6,
        "reminders": True, "timeZone": "Europe/Berlin",
    }  # fmt: skip
    assert elsewhere.with_token(other.token).get(PATH) == FIRM | firm
    assert elsewhere.with_token(by.token).get(PATH) == FIRM | own | {"start": "08:00", "timeZone": "Europe/Berlin"}
    shown = json.loads(sample(CHECKOUT / "docs/api.md", '{"days"'))
    changed = {name: shown[name] for name in ("days", "end", "hoursPerDay", "daysOff")}
    assert elsewhere.with_token(other.token).patch(PATH, changed) == shown
    elsewhere.close()

    assert by.patch(PATH, {"days": None, "hoursPerDay": None})["fromFirm"] == ["days", "start", "hoursPerDay"]
    assert by.patch(PATH, {"end": None, "reminders": None}) == FIRM


def test_days_off_are_kept_in_order_and_joined(given: Given) -> None:
    by = given.person()
    ranges = [
        {"from": "2026-12-24", "to": "2026-12-31"}, {"from": "2026-05-01", "to": "2026-05-01"},
        {"from": "2026-12-28", "to": "2027-01-02"}, {"from": "2026-05-02", "to": "2026-05-03"},
    ]  # fmt: skip
    joined = [{"from": "2026-05-01", "to": "2026-05-03"}, {"from": "2026-12-24", "to": "2027-01-02"}]
    assert by.patch(PATH, {"daysOff": ranges})["daysOff"] == joined
    assert by.patch(PATH, {"reminders": False})["daysOff"] == joined
    assert by.patch(PATH, {"daysOff": [{"from": "1900-01-01", "to": "9000-01-01"}]})["daysOff"][0]["to"] == "9000-01-01"
    assert by.patch(PATH, {"daysOff": None})["daysOff"] == []


@pytest.fixture
def person(given: Given) -> Person:
    return given.person()


def test_invalid_working_hours_are_refused_with_the_fields_names(person: Person) -> None:
    times: list[Any] = ["9:00", "24:00", "09:60", "09:00:00", "0900", 9, "", "٠٩:٠٠", "09:00\n"]
    values: dict[str, list[Any]] = {
        "days": [[], "mon", ["mon"] * 8, {}],
        "start": times,
        "end": times,
        "hoursPerDay": [0, -1, 24.5, 7.3, 25, "8", True, 1e308, []],
        "reminders": ["on", 1],
        "daysOff": ["2026-12-24", {}, [{"from": "2026-12-24", "to": "2026-12-24"}] * 367],
    }
    wrong: list[tuple[Json, str]] = [
        ({}, ""),
        *[({name: value}, name) for name, invalid in values.items() for value in invalid],
        *[({"days": [day]}, "days.0") for day in ("monday", "Mon", "")],
        ({"days": [1]}, "days.0"),
        ({"daysOff": [{"from": "2026-12-24", "to": "2026-12-23"}]}, "daysOff.0"),
        ({"daysOff": [{"from": "2026-12-24"}]}, "daysOff.0.to"),
        ({"daysOff": [{"from": "2026-02-30", "to": "2026-03-01"}]}, "daysOff.0.from"),
        ({"daysOff": [{"from": "2026-12-24", "to": "2026-12-24", "why": "x"}]}, "daysOff.0.why"),
        ({"timeZone": "Europe/Berlin"}, "timeZone"),
        ({"start": "17:00"}, "start"),
        ({"end": "09:00"}, "end"),
        ({"start": "12:00", "end": "11:00"}, "end"),
        ({"start": "09:30"}, "start"),  # then 8 hours do not fit
        ({"end": "16:59"}, "end"),
        ({"hoursPerDay": 8.5}, "hoursPerDay"),
        ({"end": "13:00", "hoursPerDay": 4.5}, "hoursPerDay"),
    ]
    for body, field in wrong:
        answer = person.http.patch(PATH, json=body)
        assert answer.status_code == 422, f"{body}: {answer.status_code} {answer.text}"
        assert refused_fields(answer) == [field], f"{body}: {answer.text}"
    answer = person.http.patch(PATH, json={"hoursPerDay": 7.3})
    assert "only whole and half hours are possible" in answer.json()["detail"]
    answer = person.http.patch(PATH, json={"end": "16:00"})
    assert "hoursPerDay would be 8, and from 09:00 to 16:00 there are only 7 hours" in answer.json()["detail"]
    assert person.get(PATH) == FIRM, "nothing of it is stored"
    assert person.patch(PATH, {"end": "13:00", "hoursPerDay": 4})["hoursPerDay"] == 4


def test_a_setting_that_does_not_fit_keeps_nobody_from_turning_reminders_off(given: Given, another: Another) -> None:
    by = given.person()
    by.patch(PATH, {"start": "10:00", "end": "18:00"})
    elsewhere = Given(another(STINT_HOURS_A_DAY="10"))
    assert elsewhere.with_token(by.token).patch(PATH, {"reminders": False})["hoursPerDay"] == 10
    elsewhere.close()


def test_the_time_zone_is_that_of_the_account_in_slack(given: Given) -> None:
    by = given.person()
    with given.stint.sql() as conn:
        for slack_id, refusal, tz in (("U1", None, "Europe/Berlin"), ("U2", "bot", "Asia/Tokyo"), ("U3", None, None)):
            conn.execute(
                "INSERT INTO slack_users (slack_id, email, refusal, tz) VALUES (%s, %s, %s, %s)",
                (f"{slack_id}{by.id}", by.email.upper(), refusal, tz),
            )
    assert by.get(PATH)["timeZone"] == "Europe/Berlin"
