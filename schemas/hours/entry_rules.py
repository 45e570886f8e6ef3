"""The settings that apply to entries, and how far ahead or back an entry may lie."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.errors import Invalid
from schemas.messages import Message, StopTimer
from schemas.postgres.connection import Connection
from schemas.settings import Settings

# Stint has no older hours: an earlier year is a wrong clock or a typing error
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# a long timer is accepted; one of more than ten years must be a mistake
MAX_RUN = timedelta(days=3650)


@dataclass(frozen=True)
class EntryRules:
    """The settings that apply to entries: the time zone of their days, the seconds from which on they are flagged as long, and
    how far ahead they may lie."""

    zone: str
    long_seconds: float
    future_hours: float

    @classmethod
    def of(cls, settings: Settings) -> "EntryRules":
        return cls(settings.stint_timezone, settings.stint_long_hours * 3600, settings.stint_future_hours)


@dataclass(frozen=True)
class Horizon:
    """How far ahead an entry may lie: `hours` from now, which is until `latest`."""

    latest: datetime
    hours: float

    def check(self, path: str, time: datetime) -> None:
        """Raises Invalid for a time after `latest`, or before EARLIEST."""
        if time > self.latest:
            raise Invalid(
                path,
                f"Hours can be recorded at most {self.hours:g} hours ahead, now until {self.latest:%Y-%m-%dT%H:%M:%SZ}; check "
                "the date, or record them when they have been worked.",
            )
        check_earliest(path, time)


def check_earliest(path: str, time: datetime) -> None:
    """Raises Invalid for a time before EARLIEST."""
    if time < EARLIEST:
        raise Invalid(path, f"Hours are recorded from {EARLIEST:%Y-%m-%d} on; check the year.")


def check_run(path: str, start: datetime, end: datetime) -> None:
    """Raises Invalid for a timer that would have run for longer than MAX_RUN."""
    if end - start > MAX_RUN:
        raise Invalid(path, "The timer would have run for more than ten years.")


async def check_edited(conn: Connection, message: Message, before: dict[str, Any], rules: EntryRules) -> None:
    """Checks a stop in a dead letter that a person has corrected: its times become an entry's, and its client knows the entry's
    id. `before`: the body before that. Raises Invalid with the field of the body."""
    if isinstance(message, StopTimer):
        if before.get("entry_id") not in (None, str(message.entry_id)):
            raise Invalid("body.entry_id", "Leave entry_id as it was: the client that stopped the timer knows its entry by it.")
        horizon = await get_horizon(conn, rules)
        horizon.check("body.start_time", message.start_time)
        horizon.check("body.end_time", message.end_time)
        if message.end_time < message.start_time:
            raise Invalid("body.end_time", "The timer would end before it starts.")
        check_run("body.start_time", message.start_time, message.end_time)


async def get_horizon(conn: Connection, rules: EntryRules) -> Horizon:
    """The horizon of now, by the database's clock."""
    now: datetime = await conn.value("SELECT date_trunc('second', now(), 'UTC')")
    return Horizon(now.astimezone(UTC) + timedelta(hours=rules.future_hours), rules.future_hours)
