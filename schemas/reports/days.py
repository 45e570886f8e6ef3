"""The days of a report. Their number is limited, so that no report reads a whole table."""

from datetime import date, timedelta

from schemas.errors import Invalid
from schemas.hours.firm_days import check_days, get_today
from schemas.postgres.connection import Connection

MAX_DAYS = 366


async def days(conn: Connection, start: date | None, end: date | None, *, zone: str) -> tuple[date, date]:
    """The first and the last day of the report: MAX_DAYS from the one that is given; if none is, until today in the firm's time
    zone."""
    if end is None and start is not None:
        return start, start + timedelta(days=min(MAX_DAYS - 1, (date.max - start).days))
    end = end or await get_today(conn, zone)
    return start or end - timedelta(days=min(MAX_DAYS - 1, (end - date.min).days)), end


def check_number_of_days(start: date, end: date) -> None:
    """Raises Invalid for a range of days that ends before it starts or has more than MAX_DAYS days."""
    check_days(start, end)
    if (number := (end - start).days + 1) > MAX_DAYS:
        raise Invalid("endDate", f"These are {number:,} days; ask for at most {MAX_DAYS} days at a time.")
