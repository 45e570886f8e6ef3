"""The comparison as CSV, for a spreadsheet. Names and texts come from people: none of them becomes a formula there."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from pydantic.alias_generators import to_camel

from schemas.xero.reconciliation.models import ComparedBill

COLUMNS = [to_camel(name) for name in ComparedBill.model_fields]
# What a spreadsheet takes for the beginning of a formula, also after a character that it may take for the end of a cell: which
# one that is depends on the country. The last four are the wide forms of the first four.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])([^\S\t\r\n]*+)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def as_csv(items: Iterable[dict[str, Any]]) -> str:
    """The items of a Reconciliation as CSV with a line of names, as RFC 4180 describes it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for item in items:
        writer.writerow([_cell(item[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> object:
    """A number as it is; a text so that a spreadsheet shows it, and does not calculate it."""
    if value is None or isinstance(value, int):
        return value
    return _FORMULA.sub(r"\1\2'", str(value))
