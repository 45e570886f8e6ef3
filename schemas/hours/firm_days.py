"""Days of the firm. It imports little, because commands do that need nothing else of bills."""

from datetime import date

from schemas.errors import Invalid
from schemas.postgres.connection import Connection


async def get_today(conn: Connection, zone: str) -> date:
    """The present day in the firm's time zone."""
    today: date = await conn.value("SELECT (clock_timestamp() AT TIME ZONE %s)::date", (zone,))
    return today


def check_days(start: date | None, end: date | None, *, path: str = "endDate") -> None:
    """Raises Invalid for a range of days that ends before it starts."""
    if start is not None and end is not None and end < start:
        raise Invalid(path, "endDate is before startDate.")
