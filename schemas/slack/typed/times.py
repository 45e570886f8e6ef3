"""Times as Slack shows them: in the person's time zone, whose name stands beside them."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.identity.work_calendar import known_zone
from schemas.settings import Settings


def zone_of(tz: str | None, settings: Settings) -> ZoneInfo:
    """The person's time zone; the firm's if Slack has named none."""
    return ZoneInfo(known_zone(tz) or settings.stint_timezone)


def clock(at: datetime, zone: ZoneInfo, *, now: datetime) -> str:
    """The time with its zone, "17:30 Europe/Berlin"; with the day if that is not today's: "Mon 30 Nov 17:30 Europe/Berlin"."""
    return f"{short_clock(at, zone, now=now)} {zone.key}"


def short_clock(at: datetime, zone: ZoneInfo, *, now: datetime) -> str:
    """The same without the zone, for a text that names it elsewhere."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    return f"{local:%H:%M}" if local.date() == today else f"{day(local.date())} {local:%H:%M}"


def span(start: datetime, end: datetime, zone: ZoneInfo, *, now: datetime) -> str:
    """The time from start to end with its zone: "16:00–17:30 Europe/Berlin"."""
    same_day = start.astimezone(zone).date() == end.astimezone(zone).date()
    last = f"{end.astimezone(zone):%H:%M}" if same_day else short_clock(end, zone, now=now)
    return f"{short_clock(start, zone, now=now)}–{last} {zone.key}"


def day(of: date) -> str:
    """The day, "Mon 30 Nov"."""
    return f"{of:%a} {of.day} {of:%b}"


def start_of(of: date, zone: ZoneInfo) -> datetime:
    """When the day begins in the time zone."""
    return datetime.combine(of, time(), zone)


def latest(at: time, zone: ZoneInfo, *, now: datetime) -> datetime:
    """When it was that time of day in the time zone for the last time, not later than `now`; in UTC. Of a time that clocks show
    twice it is the second one, once that has come. A day on which clocks skip the time does not count."""
    now, today = now.astimezone(UTC), now.astimezone(zone).date()
    moments = [
        datetime.combine(today - timedelta(days=days), at, zone).replace(fold=fold).astimezone(UTC)
        for days in range(3)
        for fold in (0, 1)
    ]
    return max(moment for moment in moments if moment <= now and moment.astimezone(zone).time() == at)
