"""Tables for terminals of any width, and for pipes."""

import textwrap
import unicodedata
from collections.abc import Sequence

from ops.command_line.terminal import colour, width

_GAP = "  "
_NARROWEST = 24  # the last column is never wrapped to less


class Wrong(str):
    """A cell that says what is wrong: it is red on a terminal."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows below their heads, without borders; without heads only the rows. Columns of numbers are aligned at the right. On
    a terminal the last column is wrapped to its width; in a pipe no line is."""
    lines = [*([heads] if heads else []), *rows]
    widths = [max(map(_columns, column)) for column in zip(*lines, strict=True)]
    of_numbers = [all(map(_is_number, column)) for column in zip(*rows, strict=True)] if rows else [False] * len(widths)
    left = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    columns = max(_NARROWEST, (width() or left + widths[-1]) - left)
    shown = []
    for line in lines:
        wrapped = textwrap.wrap(line[-1], columns, break_on_hyphens=False) or [""]
        cells = [_pad(cell, columns, right=right) for cell, columns, right in zip(line, widths, of_numbers, strict=True)][:-1]
        last = _pad(line[-1], widths[-1], right=True) if of_numbers[-1] else wrapped[0]
        shown.append(_GAP.join([*cells, colour(last, "red") if isinstance(line[-1], Wrong) else last]).rstrip())
        shown += [f"{' ' * left}{colour(part, 'red') if isinstance(line[-1], Wrong) else part}" for part in wrapped[1:]]
    return "\n".join(shown)


def _pad(cell: str, columns: int, *, right: bool) -> str:
    blanks = " " * (columns - _columns(cell))
    padded = f"{blanks}{cell}" if right else f"{cell}{blanks}"
    return colour(padded, "red") if isinstance(cell, Wrong) else padded


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").removesuffix(" s").isdecimal()


def _columns(text: str) -> int:
    """The columns that a terminal needs for the text: a character of East Asia takes two, an accent that is added none."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 0 if unicodedata.combining(each) else 1 for each in text)
