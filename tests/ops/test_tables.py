"""Tables on terminals and in pipes."""

import pytest

from ops.command_line import tables
from ops.command_line.tables import Wrong, table

HEADS = ("id", "bills", "sentence")
ROWS = [("ab12", "1,000", "Xero refuses the bill because its task has a fixed price."), ("cd34", "7", Wrong("short"))]


def test_in_a_pipe_no_line_is_wrapped() -> None:
    assert table(HEADS, ROWS).splitlines() == [
        "id    bills  sentence",
        "ab12  1,000  Xero refuses the bill because its task has a fixed price.",
        "cd34      7  short",
    ]


def test_on_a_terminal_the_last_column_is_whole_in_its_width_and_what_is_wrong_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "width", lambda: 40)
    monkeypatch.setattr(tables, "colour", lambda text, name: f"<{name}>{text}")
    shown = table(HEADS, ROWS).splitlines()
    assert shown == [
        "id    bills  sentence",
        "ab12  1,000  Xero refuses the bill",
        "             because its task has a",
        "             fixed price.",
        "cd34      7  <red>short",
    ]


def test_columns_are_aligned_also_with_names_in_other_scripts() -> None:
    assert table(("who", "n"), [("山田", "1"), ("José", "20")]).splitlines() == ["who    n", "山田   1", "José  20"]
    assert table(("who",), []) == "who"
