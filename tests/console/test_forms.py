"""Forms: what the domain refuses, and what does not fit it, as errors beside the fields."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from api.console.forms import CHOOSE, Form, FormModel, read_pairs
from api.console.words import for_field, for_page
from schemas.base import Name, Row
from schemas.hours.entry_creation import NewTimeEntry
from schemas.xero.sending import BillsToSend


class Stored(Row):
    """What the software has stored itself."""

    start_time: int


def test_what_does_not_fit_a_body_of_the_api_is_an_error_beside_its_field() -> None:
    form = Form[FormModel](typed={"start_time": ["x"], "ids": [""]})
    with form.catching():
        NewTimeEntry.model_validate({"startTime": "1905-01-01T09:00:00+00:09:21"})
    assert "must be a time" in form.errors["start_time"] and "taskId is needed" in form.general[0]
    form = Form[FormModel](typed={"ids": [""]})
    with form.catching():
        BillsToSend.model_validate({"ids": [], "reason": "x"})
    assert form.errors.keys() == {"ids"} and not form.general


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("There is no such task; GET /api/tasks lists them.", "There is no such task. Choose one that the page lists."),
        ("There is no such dead letter; GET /api/dead-letters, or ./stint dead list, lists them.",
         "There is no such dead letter. Choose one that the page lists."),
        ("You have no timer; GET /api/active-timers/me shows your running timer.", "You have no timer."),
        ("There is nothing at this path; /docs lists what there is.", "There is nothing at this path."),
        ("Xero refused; try again at auth-url in a minute.", "Xero refused; connect Xero again in a minute."),
        ("The day is locked; it is approved.", "The day is locked; it is approved."),
    ],
)  # fmt: skip
def test_a_page_names_no_path_of_the_api(said: str, shown: str) -> None:
    assert for_page(said, choose=CHOOSE) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("duration must be a whole number, such as 3600, or null: type hours and minutes, for example 1:30.",
         "Type hours and minutes, for example 1:30."),
        ("week must be a day such as 2026-11-29, or null: send it as text, with the year, month and day.",
         "week must be a day such as 2026-11-29."),
        ("status must be open or done, or null.", "status must be open or done."),
    ],
)  # fmt: skip
def test_beside_a_field_is_what_to_type_and_nothing_about_json(said: str, shown: str) -> None:
    assert for_field(said) == shown


def test_each_value_of_a_list_is_named_by_the_list() -> None:
    class Ids(FormModel):
        ids: list[UUID]

    assert read_pairs([("ids", "x")], Ids).errors["ids"].startswith("Each of ids must be the id of a row, such as ")


def test_a_field_that_is_left_empty_is_named_as_a_person_names_it() -> None:
    class Entry(FormModel):
        task_id: UUID
        channel_name: Name

    form = read_pairs([("task_id", ""), ("channel_name", " ")], Entry)
    assert form.errors == {"task_id": "Task is needed.", "channel_name": "Channel name is needed."}


def test_what_the_software_has_stored_itself_is_no_mistake_of_the_person() -> None:
    form = Form[FormModel]()
    with pytest.raises(ValidationError), form.catching():
        Stored.model_validate({"startTime": "x"})
    assert not form.is_wrong
