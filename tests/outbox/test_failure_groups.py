"""The group of a dead letter whose call was refused has the reason of the refusal in it."""

import hashlib
from dataclasses import replace

from actors.runtime.attempts import failure_from
from schemas.errors import NonRetryable
from schemas.outbox.failed_attempts import Failure, fingerprint
from schemas.xero.client_errors import Refused

FAILURE = Failure("NonRetryable", "no", "", "w", frame="actors/xero.py:f")


def group(refusal: str) -> str:
    return fingerprint("sync_bill", replace(FAILURE, refusal=refusal))


def test_refusals_for_different_reasons_are_different_groups() -> None:
    assert len({group(""), group("The task is LOCKED"), group("The task is INVOICED"), group("The project is closed")}) == 4


def test_ids_numbers_addresses_and_case_make_no_difference() -> None:
    for one, other in (
        ("No user jo@example.com", "no user <Ada@Example.org>"),
        ("The value '6f0e3c9a-2f3b-4a55-9d3e-0a1b2c3d4e5f' is not valid", "The value 'x1' is not valid"),
        ("At most 59,940 minutes", "At most 60 minutes"),
        ("Closed on 2026-03-02T10:00:00Z", "Closed  on 2027-01-01"),
    ):
        assert group(one) == group(other)


def test_the_group_of_a_failure_that_is_no_refusal_is_as_it_was() -> None:
    """Dead letters of the version before stay in their groups."""
    assert group("") == hashlib.sha256(b"sync_bill NonRetryable actors/xero.py:f").hexdigest()[:16]


def test_the_reason_is_recorded_of_every_refusal_of_xero() -> None:
    assert failure_from(NonRetryable("no", refusal="The task is LOCKED")).refusal == "The task is LOCKED"
    assert failure_from(Refused("The task is LOCKED", status=400)).refusal == "The task is LOCKED"
    assert failure_from(ValueError("no")).refusal == ""
