"""The comparison as CSV, for a spreadsheet."""

from collections.abc import Iterable
from typing import Any

from pydantic.alias_generators import to_camel

from schemas.reports import spreadsheets
from schemas.xero.reconciliation.models import ComparedBill

COLUMNS = [to_camel(name) for name in ComparedBill.model_fields]


def as_csv(items: Iterable[dict[str, Any]]) -> str:
    """The items of a Reconciliation as CSV with a line of names."""
    return spreadsheets.as_csv([COLUMNS, *([item[name] for name in COLUMNS] for item in items)])
