"""Durations as people type them: 1h30, 1:30, 1.5h, 1,5 h, 90m, 1 h 30 min, 2 hours."""

import re
from dataclasses import dataclass
from decimal import Decimal

from schemas.slack.typed import words

MOST_WORDS = 4  # "1 h 30 min"
_HOURS, _MINUTES = "(?:h|hrs?|hours?)", "(?:m|mins?|minutes?)"
_FORMS = (
    re.compile(f"(?P<hours>[0-9]{{1,3}}) ?{_HOURS} ?(?P<minutes>[0-9]{{1,2}}) ?{_MINUTES}"),
    re.compile(f"(?P<hours>[0-9]{{1,3}})(?:h|:)(?P<minutes>[0-9]{{2}})(?: ?{_HOURS})?"),
    re.compile(f"(?P<hours>[0-9]{{0,3}}[.,]?[0-9]{{1,2}}) ?{_HOURS}"),
    re.compile(f"(?P<minutes>[0-9]{{1,4}}) ?{_MINUTES}"),
)
_NUMBER = re.compile("(?P<number>[0-9]{0,3}[.,]?[0-9]{1,2})")
_SMALLEST_MINUTES = 10  # a number without a unit: 8 is rather hours, 45 is rather minutes


@dataclass(frozen=True)
class Duration:
    """A duration in whole seconds, and the text after it."""

    seconds: int
    rest: str

    @property
    def text(self) -> str:
        """As it can be typed: "1h30", "45m"."""
        return short(self.seconds)


def parse(text: str) -> Duration | None:
    """The duration that the text begins with; None if it begins with none."""
    for count in range(MOST_WORDS, 0, -1):
        typed, rest = words.first_words(text, count)
        found = _match(typed.rstrip(words.PUNCTUATION))
        if found is not None:
            return Duration(found, rest)
    return None


def parse_number(text: str) -> Duration | None:
    """The duration that is probably meant by the number without a unit that the text begins with; None without a number."""
    typed, rest = words.first_words(text, 1)
    found = _NUMBER.fullmatch(typed.rstrip(words.PUNCTUATION))
    if found is None:
        return None
    number = Decimal(found["number"].replace(",", "."))
    is_minutes = number >= _SMALLEST_MINUTES and number == number.to_integral_value()
    return Duration(int(number * (60 if is_minutes else 3600)), rest)


def parse_end(text: str) -> tuple[Duration, str] | None:
    """The duration that the text ends with, and the text before it; None if it ends with none."""
    parts = text.split()
    for count in range(min(MOST_WORDS, len(parts) - 1), 0, -1):
        found = parse(" ".join(parts[-count:]))
        if found is not None and not found.rest:
            return found, " ".join(parts[:-count])
    return None


def short(seconds: int) -> str:
    """The duration as it can be typed, in whole minutes: "1h30", "2h", "45m"."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes}m"
    return f"{hours}h{minutes:02}" if minutes else f"{hours}h"


def _match(typed: str) -> int | None:
    """The duration in seconds. None: the text is no duration."""
    for form in _FORMS:
        if (found := form.fullmatch(typed)) is not None:
            values = found.groupdict()
            hours = Decimal((values.get("hours") or "0").replace(",", "."))
            minutes = int(values.get("minutes") or 0)
            if values.get("hours") and minutes > 59:
                return None
            return int(hours * 3600) + minutes * 60
    return None
