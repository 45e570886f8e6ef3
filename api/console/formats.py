"""Times, days, hours and numbers as text: in the firm's time zone, in the order and with the signs of the person's country."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from zoneinfo import ZoneInfo

# As the Common Locale Data Repository (CLDR) of Unicode has them; other languages write 1.234,5.
WITH_POINT = {"en", "ja", "zh", "ko", "th", "he", "hi", "ms", "ga", "cy", "es-mx", "es-us", "es-pe", "es-do", "es-gt"}
WITH_SPACE = {"fr", "sv", "nb", "nn", "no", "fi", "cs", "sk", "pl", "hu", "bg", "ru", "uk", "et", "lv", "lt", "af", "gl"}
WITH_SPACE |= {"pt-pt", "en-za"}
WITH_APOSTROPHE = {"CH", "LI"}  # countries
MONTH_FIRST = {"", "US", "CA", "PH"}  # where English is read; "": no country
TWELVE_HOURS = MONTH_FIRST | {"AU", "NZ", "IN", "SG", "HK"}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Formats:
    """How one person reads values. `zone`: the firm's time zone."""

    zone: ZoneInfo
    language: str = "en"
    country: str = ""

    @classmethod
    def of(cls, accept_language: str, zone: str) -> "Formats":
        """By a browser's Accept-Language."""
        tag = accept_language.partition(",")[0].partition(";")[0].strip()[:20]
        language, _, country = tag.partition("-")
        return cls(ZoneInfo(zone), language.lower() if language.isalpha() else "en", country.upper())

    @property
    def today(self) -> date:
        """The present day."""
        return datetime.now(self.zone).date()

    def hours(self, seconds: float) -> str:
        """Seconds as hours and minutes: `7:30`, `−0:15`. The rest of a minute is cut off."""
        if seconds < 0:
            return f"−{found}" if (found := self.hours(-seconds)) != "0:00" else found
        minutes = int(seconds) // 60
        return f"{minutes // 60}:{minutes % 60:02}"

    def minutes(self, minutes: int) -> str:
        """Minutes as hours and minutes."""
        return f"{minutes // 60}:{minutes % 60:02}" if minutes >= 0 else self.hours(minutes * 60)

    def day(self, value: date, *, year: bool = False) -> str:
        """`Mon 2 Mar`, in the United States `Mon, Mar 2`; with the year if it is another one than the present, or asked for."""
        month, weekday = MONTHS[value.month - 1], DAYS[value.weekday()]
        with_year = year or value.year != self.today.year
        if self._reads_english_of(MONTH_FIRST):
            return f"{weekday}, {month} {value.day}{f', {value.year}' if with_year else ''}"
        return f"{weekday} {value.day} {month}{f' {value.year}' if with_year else ''}"

    def month(self, value: date) -> str:
        """`Mar 2026`."""
        return f"{MONTHS[value.month - 1]} {value.year}"

    def time(self, value: datetime | str) -> str:
        """The time of day: `09:30`, in the United States `9:30 AM`."""
        local = self.local(value)
        if self._reads_english_of(TWELVE_HOURS):
            return f"{local.hour % 12 or 12}:{local.minute:02} {'AM' if local.hour < 12 else 'PM'}"
        return f"{local.hour:02}:{local.minute:02}"

    def moment(self, value: datetime | str) -> str:
        """Day and time; of today the time only."""
        local = self.local(value)
        return self.time(local) if local.date() == self.today else f"{self.day(local.date())}, {self.time(local)}"

    def local(self, value: datetime | str) -> datetime:
        """The time in the firm's time zone. A text is RFC 3339, as rows have it in JSON."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(self.zone)

    def iso(self, value: datetime | str) -> str:
        """For the attribute `datetime` of `<time>`."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def number(self, value: float, digits: int = 0) -> str:
        """`1,234.5`, elsewhere `1.234,5`, `1 234,5` with a narrow space that does not break, or `1’234.5`."""
        text = f"{value:,.{digits}f}"
        return text.translate(self._signs) if self._signs else text

    def ago(self, seconds: float) -> str:
        """A duration in its largest unit: `12 s`, `5 min`, `3 h`, `2 days`."""
        for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
            if seconds >= size:
                count = int(seconds // size)
                return f"{count} {'day' if unit == 'days' and count == 1 else unit}"
        return f"{int(seconds)} s"

    def initials(self, name: str) -> str:
        """At most two characters of a name."""
        words = name.split()
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()

    @cached_property
    def _signs(self) -> dict[int, str]:
        """What to write for a comma between thousands and for a decimal point."""
        tags = {self.language, f"{self.language}-{self.country.lower()}"}
        if self.country in WITH_APOSTROPHE:
            return str.maketrans({",": "’"})
        if tags & WITH_SPACE:
            return str.maketrans({",": "\u202f", ".": ","})
        return {} if tags & WITH_POINT else str.maketrans({",": ".", ".": ","})

    def _reads_english_of(self, countries: set[str]) -> bool:
        return self.language == "en" and self.country in countries
