"""Hooks for Schemathesis, with what the OpenAPI document cannot express; tests/api/test_fuzzed.py loads them into its
process."""

from datetime import UTC, date, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

FIRST, LAST = date(1900, 1, 2), date(8999, 12, 30)
TIMES = st.datetimes(
    datetime(FIRST.year, FIRST.month, FIRST.day), datetime(LAST.year, LAST.month, LAST.day), timezones=st.just(UTC)
)
RFC_3339 = TIMES.map(lambda time: time.isoformat().replace("+00:00", "Z"))

schemathesis.openapi.format("date", st.dates(FIRST, LAST).map(date.isoformat))
schemathesis.openapi.format("date-time", RFC_3339)
schemathesis.openapi.format("sync-timestamp", RFC_3339 | st.integers(0, 10**13).map(str))
schemathesis.openapi.format("email", st.from_regex(r"[a-z][a-z0-9]{0,9}@[a-z]{1,9}\.example", fullmatch=True))

# Messages for requests that match the document but are invalid: fields that depend on each other, on rows, or on the clock.
# JSON Schema cannot reasonably express that. Every other request that matches must not be refused with 422.
BEYOND_THE_SCHEMA = (
    # a cursor is opaque and belongs to one list
    "This is not a valid cursor;",
    "This cursor is not from an earlier page of this job",
    "This is not a cursor of a sync;",
    "Send the syncTimestamp of an earlier response, or a time such as",
    "This is not the syncTimestamp of a list from this server; read the list again.",
    # fields that exclude or need each other
    "Send customer or customerId, not both.",
    "Send userId or email, one of the two.",
    "Send endTime or duration.",
    "Send either notes, which replaces them, or append, which adds a line.",
    "Send either bills, or filter and syncTimestamp.",
    "Send either ids or filter;",
    "Send exactly one of ids, group, filter and all.",
    "Send filter together with the syncTimestamp of the list that you read; send bills without it.",
    "Send rejectionNote only with status rejected.",
    "A memo makes a rejected bill pending:",
    "Send the reason as rejectionNote: the owner needs it to correct the bill.",
    "The bill is not rejected; to reject it, send status rejected with the note.",
    "Send at least one",
    # working hours
    "end must be after start:",
    "hoursPerDay would be",
    "to must not be before from",
    # times
    "endDate is before startDate.",
    "These are ",
    "startTime, endTime and duration do not agree; leave one of them out.",
    "The entry would end before it starts.",
    "The entry would leave the years from 1900 to 9000.",
    "An entry can be at most 31 days long; create several entries.",
    "The start is",
    "The stop is",
    "The timer would end before it starts.",
    # rows
    "There is no such",
    "The customer has no such pillar; leave it out for General Support.",
    "No consultant has this id",
    "This pillar is inactive",
    "This customer is inactive",
    "The notes would be longer than",
    "This state is not yours,",
    "This task is archived",
    "The list contains a bill twice.",
    "the body no longer fits",
    "More than",
    "The report has more than",
)

# for JSON Schema, 60.0 is an integer
WHOLE_NUMBER = ": send it without quotes and without a fraction."

# Failures to ignore, by operation and title.
IGNORED = {
    # OpenAPI 3.1 can document a stream only as text; test_event_streams.py checks the events
    ("GET /api/events", "SSE event violates schema"),
}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Ignores a 422 whose messages are all in BEYOND_THE_SCHEMA, and a 413, because schemas do not limit the size of a body."""
    kind = type(failure).__name__
    if (case.operation.label, failure.title) in IGNORED:
        return False
    if kind in ("RejectedPositiveData", "AcceptedNegativeData") and response.status_code == 413:
        return False
    if kind != "RejectedPositiveData" or response.status_code != 422:
        return True
    errors = response.json().get("errors", [])
    return not errors or not all(
        error["message"].startswith(BEYOND_THE_SCHEMA) or error["message"].endswith(WHOLE_NUMBER) for error in errors
    )
