"""After how long it is certain what Xero has done with a request whose answer was lost.

Xero may execute a request late, and its lists may be behind. The settings say by how much, at most.
"""

from datetime import timedelta

from schemas.settings import Settings
from schemas.xero.entry_records import EntryRecord

KEY_SECONDS = 300.0  # Xero remembers an Idempotency-Key at least for this time; its documents say about 6 minutes


def max_call_seconds(settings: Settings) -> float:
    """Seconds after the start of a call at which it has certainly ended.

    This is more than the deadline of the call: the request may be sent after the start, and the answer may be read after the
    deadline.
    """
    return settings.stint_xero_call_seconds * 2.0


def execution_seconds(settings: Settings) -> float:
    """Seconds after the start of a call at which Xero does not execute it any more."""
    return max_call_seconds(settings) + settings.stint_xero_late_seconds


def proof_seconds(settings: Settings) -> float:
    """Seconds after the start of a create request from which on Xero's list certainly shows its entry, if it was executed."""
    return execution_seconds(settings) + settings.stint_xero_lag_seconds


def seconds_until_deleted(record: EntryRecord, settings: Settings) -> float:
    """Seconds until Xero can execute no delete request any more that was sent for the entry. 0 or less: it cannot any more."""
    if record.delete_attempted_at is None:
        return 0
    return execution_seconds(settings) - record.seconds_since(record.delete_attempted_at)


def has_certainly_failed(record: EntryRecord, settings: Settings) -> bool:
    """Whether the create request was certainly never executed.

    The proof is a look-up of the entry that did not find it, and that began `proof_seconds` or more after the request. An
    earlier look-up proves nothing, even if it was long ago: Xero may have executed the request after it, or Xero's list may
    have been behind.
    """
    attempted, looked = record.create_attempted_at, record.looked_at
    if attempted is None or looked is None or record.outcome_unknown:
        return False
    return looked - attempted >= timedelta(seconds=proof_seconds(settings))


def is_key_remembered(record: EntryRecord, settings: Settings) -> bool:
    """Whether Xero certainly knows the Idempotency-Key of the first create request when it executes one that is sent now."""
    first = record.first_attempted_at
    return first is not None and record.seconds_since(first) + execution_seconds(settings) < KEY_SECONDS
