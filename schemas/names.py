"""Names: how they are stored, and when two of them are the same.

A name is stored as it was written, without invisible characters. Two names are the same if their keys are equal. Unicode
variants of one character, upper and lower case, blanks and invisible characters make no difference for a key.

`name_key` here has the same rule as the SQL function `name_key` (schemas/migrations/0006_names.sql). The SQL function decides,
because it compares stored names.
"""

import re
import unicodedata

# Both are the inside of the brackets of a regular expression. What is shown as a blank: whitespace, and the blank of Braille.
BLANKS = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\u2800"
# What is not shown at all: control characters, and Unicode's Default_Ignorable_Code_Point with the marks of annotations.
INVISIBLE = (
    r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Some invisible characters belong to what is shown: they join others, choose their variants, and spell the flags of regions.
_JOINERS = "\u200c\u200d"
_MEANINGFUL = set(_JOINERS + "\u034f\u180b\u180c\u180d\u180f") | {chr(code) for code in range(0xFE00, 0xFE10)}
_MEANINGFUL |= {chr(code) for code in (*range(0xE0020, 0xE0080), *range(0xE0100, 0xE01F0))}

MAX_TYPED = 100  # characters of a search; no more are compared
MAX_STATED = 1_000  # characters of a name that an identity provider states: to normalize combining marks takes quadratic time
HAS_VISIBLE = f"[^{BLANKS}{INVISIBLE}]"  # the pattern of a text in which something can be seen
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_BLANKS = re.compile(f"[{BLANKS}]+")
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")  # the tab, and what ends a line
# the end is looked for only where a run of blanks begins, so that a long run takes linear time
_OUTER = re.compile(f"^[{BLANKS}{_JOINERS}]+|(?<![{BLANKS}{_JOINERS}])[{BLANKS}{_JOINERS}]+$")


def clean_name(name: str) -> str:
    """The name as it is stored, on one line. Raises ValueError if nothing of it can be seen.

    Outer blanks, control characters, marks of direction and other invisible characters are removed. Invisible characters that
    belong to a visible one are kept. Blanks with a line break or a tab among them become one blank.
    """
    seen = _INVISIBLE.sub(lambda found: found[0] if found[0] in _MEANINGFUL else "", name)
    cleaned = _OUTER.sub("", on_one_line(seen))
    # an invisible character between two marks keeps them in another order than Unicode's, which looks the same
    if name_key(cleaned) != name_key(bare := _INVISIBLE.sub("", cleaned)):
        cleaned = bare
    if not name_key(cleaned):
        raise ValueError("no character of it can be seen")
    return cleaned


def clean_name_of_account(name: str) -> str:
    """The name that an identity provider states, as it is stored: cleaned like all names, and empty if nothing of it can be
    seen."""
    name = name[:MAX_STATED]
    return clean_name(name) if name_key(name) else ""


def on_one_line(text: str) -> str:
    """The text with one blank instead of each run of blanks that contains a line break or a tab."""
    return _BLANKS.sub(lambda run: run[0] if _BREAKS.isdisjoint(run[0]) else " ", text)


def check_visible(text: str) -> str:
    """The text, if something of it can be seen. Raises ValueError if nothing can."""
    if not name_key(text):
        raise ValueError("no character of it can be seen")
    return text


def name_key(name: str) -> str:
    """The same for two names that look the same, or differ only in case."""
    decomposed = unicodedata.normalize("NFKD", name)
    return _BLANKS.sub(" ", _INVISIBLE.sub("", decomposed).casefold()).strip(" ")


def patterns(typed: str) -> list[str]:
    """The patterns of a search: for each word one of SQL's LIKE, which is compared with the `name_key` of names. Without words
    there are none, and every name matches."""
    return [_pattern(word) for word in name_key(typed[:MAX_TYPED]).split()]


def _pattern(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
