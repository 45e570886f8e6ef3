"""Whether Xero may have an entry for a bill that nothing in Postgres tells of.

A Postgres that was restored, failed over or has crashed may have lost what Stint had committed before a call to Xero. So Stint
looks for the entry of an older bill by its mark before it creates another one, and before a missing one counts as deleted by
hand. The look is proof if it begins when Xero cannot execute an earlier request any more, and lists what it has executed.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from schemas.xero.client import EntryContent
from schemas.xero.entry_records import EntryRecord

# SQL: since when nothing can have been lost that was committed, if bill `b` is older; else null. While no epoch can begin,
# because a dump is being restored, the present. The clocks of two servers differ by a little. See decision 23.
LOST_BEFORE = """(
    SELECT CASE WHEN b.created_at < lost.before + interval '5 minutes' THEN nullif(lost.before, '-infinity') END
    FROM (SELECT coalesce((SELECT unbroken_since FROM sync_epochs WHERE id = sync_epoch()),
        CASE WHEN EXISTS (SELECT FROM sync_epochs) THEN clock_timestamp() ELSE '-infinity' END) AS before) lost)"""
_REVISIONS_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


def seconds_until_look(lost_before: datetime | None, record: EntryRecord, *, proof_seconds: float) -> float | None:
    """In how many seconds to look for an entry that is not known any more; 0 or less: now. None: there is none, because a look
    that began `proof_seconds` after the loss has found nothing else."""
    if lost_before is None:
        return None
    first = lost_before + timedelta(seconds=proof_seconds)
    if record.looked_at is not None and record.looked_at >= first:
        return None
    return -record.seconds_since(first)


def next_revision(lost_before: datetime | None, record: EntryRecord) -> int:
    """The revision of the next create request under a new Idempotency-Key. After a loss it jumps, so that no key is used again
    of a request that is not known any more."""
    least = 0 if lost_before is None else int((lost_before - _REVISIONS_BEGIN).total_seconds())
    return max(record.revision, least) + 1


def perhaps_created(
    record: EntryRecord, *, tenant_id: str, project_id: str, content: EntryContent, lost_before: datetime
) -> EntryRecord:
    """What is known before that look: a create request may have been sent until the loss. `content` is what Stint would ask for
    now."""
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
