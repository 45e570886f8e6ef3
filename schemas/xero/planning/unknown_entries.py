"""Whether Xero may have an entry for a bill although Postgres has no record of it.

A Postgres that was restored, failed over or has crashed may have lost what Stint had committed before a call to Xero. So for a
bill that is older than the loss, Stint looks for the entry by its mark in two cases: before it creates another entry, and
before a missing entry counts as deleted by hand.

The look is proof if it begins late enough: when Xero cannot execute an earlier request any more, and its list has everything
that it has executed.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from schemas.xero.entries.entry import EntryContent
from schemas.xero.entry_records import EntryRecord

# SQL: the time before which committed data may have been lost, if bill `b` is older than that; else null. It is the present
# while a dump is being restored, because no epoch can begin then. The 5 minutes are for the clocks of two servers, which may
# differ a little. See decision 23.
LOST_BEFORE = """(
    SELECT CASE WHEN b.created_at < lost.before + interval '5 minutes' THEN nullif(lost.before, '-infinity') END
    FROM (SELECT coalesce((SELECT unbroken_since FROM sync_epochs WHERE id = sync_epoch()),
        CASE WHEN EXISTS (SELECT FROM sync_epochs) THEN clock_timestamp() ELSE '-infinity' END) AS before) lost)"""
_REVISIONS_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


def seconds_until_look(lost_before: datetime | None, record: EntryRecord, *, proof_seconds: float) -> float | None:
    """Seconds until Stint may look for an entry that Postgres may have lost. 0 or less: now.

    None: there is no such entry. Either nothing was lost, or a look that began `proof_seconds` or more after the loss has found
    no other entry.
    """
    if lost_before is None:
        return None
    first = lost_before + timedelta(seconds=proof_seconds)
    if record.looked_at is not None and record.looked_at >= first:
        return None
    return -record.seconds_since(first)


def next_revision(lost_before: datetime | None, record: EntryRecord) -> int:
    """The revision of the next create request, which makes its Idempotency-Key a new one.

    After a loss it is higher than any revision before the loss, so that the key of a lost request is never used again.
    """
    least = 0 if lost_before is None else int((lost_before - _REVISIONS_BEGIN).total_seconds())
    return max(record.revision, least) + 1


def perhaps_created(
    record: EntryRecord, *, tenant_id: str, project_id: str, content: EntryContent, lost_before: datetime
) -> EntryRecord:
    """What is known before that look: a create request may have been sent until the loss.

    What it asked for is not known. `content` is what Stint would ask for now.
    """
    return replace(
        record,
        tenant_id=tenant_id,
        project_id=project_id,
        content=content,
        first_attempted_at=None,
        create_attempted_at=lost_before,
        outcome_unknown=True,
        searched_pages=0,
        create_refused=False,
    )
