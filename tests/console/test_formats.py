"""Numbers, days and times in the order and with the signs of a person's country, as CLDR has them."""

from datetime import UTC, date, datetime

import pytest

from api.console.formats import Formats


@pytest.mark.parametrize(
    ("accepted", "number", "day", "time"),
    [
        ("en-US,en;q=0.9", "1,234,567.5", "Mon, Mar 2, 2020", "2:30 PM"),
        ("en", "1,234,567.5", "Mon, Mar 2, 2020", "2:30 PM"),
        ("en-CA", "1,234,567.5", "Mon, Mar 2, 2020", "2:30 PM"),
        ("en-AU", "1,234,567.5", "Mon 2 Mar 2020", "2:30 PM"),
        ("en-GB", "1,234,567.5", "Mon 2 Mar 2020", "14:30"),
        ("en-ZA", "1\u202f234\u202f567,5", "Mon 2 Mar 2020", "14:30"),
        ("de-DE;q=0.8", "1.234.567,5", "Mon 2 Mar 2020", "14:30"),
        ("de-CH", "1’234’567.5", "Mon 2 Mar 2020", "14:30"),
        ("fr", "1\u202f234\u202f567,5", "Mon 2 Mar 2020", "14:30"),
        ("sv-SE", "1\u202f234\u202f567,5", "Mon 2 Mar 2020", "14:30"),
        ("pt-BR", "1.234.567,5", "Mon 2 Mar 2020", "14:30"),
        ("pt-PT", "1\u202f234\u202f567,5", "Mon 2 Mar 2020", "14:30"),
        ("es-MX", "1,234,567.5", "Mon 2 Mar 2020", "14:30"),
        ("ja", "1,234,567.5", "Mon 2 Mar 2020", "14:30"),
        ("", "1,234,567.5", "Mon, Mar 2, 2020", "2:30 PM"),
        ("*", "1,234,567.5", "Mon, Mar 2, 2020", "2:30 PM"),
    ],
)
def test_each_country_reads_its_own_signs(accepted: str, number: str, day: str, time: str) -> None:
    show = Formats.of(accepted, "UTC")
    moment = datetime(2020, 3, 2, 14, 30, tzinfo=UTC)
    assert (show.number(1234567.5, 1), show.day(date(2020, 3, 2)), show.time(moment)) == (number, day, time)
