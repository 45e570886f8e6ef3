"""What somebody has changed by hand in the time entry of a bill, or that it was deleted."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from schemas.xero.entries.entry import EntryContent

CHOICE = "Send the bill again, or accept what is there."
CHOICE_WHEN_INVOICED = "Accept what is there; or take the entry off the invoice in Xero, and send the bill again."


class Difference(BaseModel):
    """What the entry of a bill has in Xero since somebody changed it there. `content` is None if it was deleted, or moved to
    another project."""

    model_config = ConfigDict(frozen=True)

    content: EntryContent | None = None

    @property
    def is_deletion(self) -> bool:
        return self.content is None

    def agrees_with(self, found: EntryContent | None) -> bool:
        """Whether the entry has this content, or is not there."""
        if self.content is None or found is None:
            return self.content is found
        return not changed_fields(self.content, found)


def changed_fields(written: EntryContent, found: EntryContent) -> list[str]:
    """The fields that are not as Stint wrote them: `minutes`, `date`, `description`, `user`, `task`. The time within the day
    and blanks in the description do not count."""
    differs = {
        "minutes": written.minutes != found.minutes,
        "date": not is_same_day(written.date_utc, found.date_utc),
        "description": written.description.split() != found.description.split(),
        "user": written.user_id.lower() != found.user_id.lower(),
        "task": written.task_id.lower() != found.task_id.lower(),
    }
    return [name for name, is_other in differs.items() if is_other]


def is_same_day(noon: datetime, time: datetime) -> bool:
    """Whether the time is on the day with that noon: people may move an entry within its day in Xero."""
    return timedelta(hours=-12) <= time - noon < timedelta(hours=12)


def difference(written: EntryContent, found: EntryContent) -> Difference | None:
    """What was changed in an entry with the content `written`; None: nothing."""
    return Difference(content=found) if changed_fields(written, found) else None


def sentence(written: EntryContent, now: Difference, status: str | None, zone: str) -> str:
    """What was changed, in words for the bill's `xero.error`. `status`: of the entry."""
    if now.content is None:
        return f"Its time entry was deleted in Xero, or moved to another project there. {CHOICE}"
    found = now.content
    words = {
        "minutes": f"{found.minutes:,} {'minute' if found.minutes == 1 else 'minutes'} instead of {written.minutes:,}",
        "date": f"the day {day_in(zone, found.date_utc)} instead of {day_in(zone, written.date_utc)}",
        "description": "another description" if found.description.strip() else "no description",
        "user": "another user",
        "task": "another task",
    }
    changes = ", ".join(words[name] for name in changed_fields(written, found))
    if status in ("LOCKED", "INVOICED"):
        return f"Its time entry was changed in Xero: {changes}. It is {status.lower()} there. {CHOICE_WHEN_INVOICED}"
    return f"Its time entry was changed in Xero: {changes}. {CHOICE}"


def day_in(zone: str, time: datetime) -> date:
    """The day of an entry in the firm's time zone."""
    return time.astimezone(ZoneInfo(zone)).date()
