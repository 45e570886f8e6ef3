"""Forms: what the domain refuses, and what does not fit it, as errors beside the fields."""

import pytest
from pydantic import ValidationError

from api.console.forms import Form, FormModel
from schemas.base import Row
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


def test_what_the_software_has_stored_itself_is_no_mistake_of_the_person() -> None:
    form = Form[FormModel]()
    with pytest.raises(ValidationError), form.catching():
        Stored.model_validate({"startTime": "x"})
    assert not form.is_wrong
