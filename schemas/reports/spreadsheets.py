"""Rows as CSV, for a spreadsheet. Names and texts come from people: none of them becomes a formula there."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from uuid import UUID

BYTE_ORDER_MARK = "\ufeff"  # without it, some spreadsheets do not read UTF-8
# What a spreadsheet takes for the beginning of a formula, also after a character that it may take for the end of a cell: which
# one that is depends on the country. The last four are the wide forms of the first four.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])([^\S\t\r\n]*+)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")

_HARMLESS = (type(None), int, date, UUID)


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """The rows as CSV, as RFC 4180 describes it."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A number, a day or an id as it is; a text so that a spreadsheet shows it, and does not calculate it."""
    return value if isinstance(value, _HARMLESS) else _text(str(value))


@lru_cache(maxsize=5_000)  # a report has the same names in many rows
def _text(value: str) -> str:
    return _FORMULA.sub(r"\1\2'", value)
