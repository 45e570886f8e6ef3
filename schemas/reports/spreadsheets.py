"""Rows as CSV, for a spreadsheet. Names and texts come from people: none of them becomes a formula there."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

BYTE_ORDER_MARK = "\ufeff"  # without it, some spreadsheets do not read UTF-8
# What a spreadsheet takes for the beginning of a formula, also after a character that it may take for the end of a cell: which
# one that is depends on the country. The last four are the wide forms of the first four.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])([^\S\t\r\n]*+)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """The rows as CSV, as RFC 4180 describes it."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A number as it is; a text so that a spreadsheet shows it, and does not calculate it."""
    if value is None or isinstance(value, int):
        return value
    return _FORMULA.sub(r"\1\2'", str(value))
