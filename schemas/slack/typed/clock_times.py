"""Times of day as people type them: 17:30, 17.30, 5pm, 5:30 p.m., 17h30."""

import re
from datetime import time

from schemas.slack.typed import words

_FORM = re.compile("(?P<hour>[0-9]{1,2})(?:[:.h](?P<minute>[0-9]{2}))?(?P<half>am|pm|h)?")
_BEFORE = ("at", "um", "@")


def parse(text: str) -> time | None:
    """The time of day that the text is; None if it is something else."""
    typed = words.normal(text.strip()).strip(words.QUOTES)
    for before in _BEFORE:
        typed = typed.removeprefix(before).strip()
    typed = typed.replace("a.m", "am").replace("p.m", "pm").replace(" ", "").rstrip(words.PUNCTUATION)
    found = _FORM.fullmatch(typed)
    if found is None:
        return None
    hour, minute, half = int(found["hour"]), int(found["minute"] or 0), found["half"]
    if half in ("am", "pm"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    return time(hour, minute) if hour < 24 and minute < 60 else None
