"""What Schemathesis cannot read in the OpenAPI document: loaded into its process by tests/api/test_fuzzed.py."""

from datetime import UTC, date, datetime

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

# Requests that fit the document and make no sense: fields that depend on each other, on what there is, or on the clock. No
# JSON Schema of a reasonable size says that; of everything else that fits, nothing may be refused with 422.
NO_SENSE = (
    # a cursor is opaque, and of one list
    "This is no cursor of ours; send the nextCursor of an earlier answer, or none to begin anew.",
    "This is no cursor of a sync; send the nextCursor of an earlier answer, or none to begin anew.",
    "Send the syncTimestamp of an earlier answer, or a time such as",
    "This is not the syncTimestamp of a list that was read here; read it again.",
    # either this or that
    "Send customer or customerId, not both.",
    "Send userId or email, one of the two.",
    "Send endTime or duration.",
    "Send either notes, which replaces them, or append, which adds a line.",
    "Send either bills, or filter and syncTimestamp.",
    "Send exactly one of ids, group, filter and all.",
    "A filter goes with the syncTimestamp of the list that was seen, and bills without one.",
    "A rejectionNote goes with status rejected only.",
    "Say why the bill is rejected: its owner has to mend it.",
    "The bill is not rejected; send status rejected with the note.",
    "Send at least one",
    # JSON Schema takes 60.0 for an integer
    "send a whole number",
    # times
    "endDate lies before startDate.",
    "startTime, endTime and duration do not agree; leave one of them out.",
    "The entry would end before it starts.",
    "The entry would leave the years from 1900 to 9000.",
    "An entry lasts 31 days at most; make several of it.",
    "The start lies",
    # what there is
    "There is no such",
    "The customer has no such pillar; leave it out for General Support.",
    "Nobody who",
    "This pillar is inactive",
    "This task is archived",
    "A bill stands there twice.",
    "the body no longer fits",
    "More than",
)


# Checks that cannot hold, by operation and failure.
EXCUSED = {
    # OpenAPI 3.1 can say of a stream only that it is text; test_event_streams.py reads the events
    ("GET /api/events", "SSE event violates schema"),
}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """A refusal of what fits the document is no failure where every field's message says that it makes no sense; nor is one of
    a body that is too large, of which no schema speaks."""
    kind = type(failure).__name__
    if (case.operation.label, failure.title) in EXCUSED:
        return False
    if kind in ("RejectedPositiveData", "AcceptedNegativeData") and response.status_code == 413:
        return False
    if kind != "RejectedPositiveData" or response.status_code != 422:
        return True
    errors = response.json().get("errors", [])
    return not errors or not all(error["message"].startswith(NO_SENSE) for error in errors)
