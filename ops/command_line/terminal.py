"""How output looks on a terminal: its width, and colour for what is wrong."""

import os
import shutil
import sys

_CODES = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}


def colour(text: str, name: str) -> str:
    """The text in that colour, or in bold. Unchanged without a name, with NO_COLOR, and if standard output is no terminal."""
    return f"\033[{_CODES[name]}m{text}\033[0m" if name and has_colour() else text


def has_colour() -> bool:
    """Whether standard output is a terminal with colours, and nobody has switched them off: https://no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """The columns of the terminal; None for a pipe or a file, whose lines may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 bill`, `2 bills`, `1,000 bills`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def escape_control(text: str) -> str:
    """The text with control characters escaped, except tabs and line breaks: what others have written, such as the sender of
    an unrecognized message, must not control the terminal."""
    return "".join(c if c.isprintable() or c in "\t\n" else c.encode("unicode_escape").decode() for c in text)
