"""Errors of a Postgres that answers, and stores nothing now."""

import psycopg

# The server is read-only, for example a standby, or its disk is full.
WRITES_REFUSED: tuple[type[Exception], ...] = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.DiskFull)
# the functions of Postgres's source that find no transaction id that may be used
_GIVE_OUT_IDS = ("GetNewTransactionId", "GetNewMultiXactId")


def refuses_writes(error: BaseException) -> bool:
    """Whether the error means that Postgres answers, and stores nothing now."""
    return isinstance(error, WRITES_REFUSED) or (
        # the class of other limits, too
        isinstance(error, psycopg.errors.ProgramLimitExceeded) and error.diag.source_function in _GIVE_OUT_IDS
    )
