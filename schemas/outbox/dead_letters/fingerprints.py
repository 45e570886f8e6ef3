"""Fingerprints of failures: dead letters with the same fingerprint are one group.

A group has one cause, so that one canary speaks for all of it: the actor, the class of the error, its place in the code, and
its words. Numbers, ids, quoted values and addresses differ between messages that fail for one cause, so they are left out. What
is quoted after a word such as `constraint` or `column` names a part of a program, and stays.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator

from schemas.postgres.connection import Connection

MAX_GROUPS = 30  # of one actor, class of error and frame; a group without dead letters counts for QUIET_DAYS
QUIET_DAYS = 30
OTHERS = "(other words)"
MAX_LENGTH = 300
PLACEHOLDER = "#"
_CLOSING = {"'": "'", '"': '"', "`": "`", "“": "”", "‘": "’", "«": "»"}  # by the opening quote
_NAMED_BY = frozenset(
    ("argument", "attribute", "column", "constraint", "function", "index", "module", "relation", "table", "trigger", "type")
)
_PUNCTUATION = ".,:;!?()[]{}<>=|/\\-–—…'\"`^*"
# Postgres and psycopg add these lines after the message; they have values of the row, without quotes
_APPENDED = ("\nDETAIL:", "\nCONTEXT:", "\nHINT:", "\nLINE ")


def fingerprint(actor: str, error_class: str, frame: str, message: str) -> str:
    """Identifies the group. `message`: as `normalized` returns it."""
    text = "\n".join((actor, error_class, frame, message))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def normalized(error: str) -> str:
    """The words of an error in lower case, with PLACEHOLDER for each value; at most MAX_LENGTH characters. Takes time in
    proportion to the length."""
    for appended in _APPENDED:
        error = error.partition(appended)[0]
    found: list[str] = []
    for text, is_quoted in _parts(error.lower()):
        if is_quoted and found and found[-1].strip(_PUNCTUATION) in _NAMED_BY:
            found.append(text)
            continue
        for word in [PLACEHOLDER] if is_quoted else text.split():
            shown = PLACEHOLDER if _is_value(word) else word
            # a list of values may be of any length
            if shown.strip(_PUNCTUATION) and (shown != PLACEHOLDER or found[-1:] != [PLACEHOLDER]):
                found.append(shown)
    words = " ".join(found)
    # a part of a word could be a part of a secret, which is not masked
    return words if len(words) <= MAX_LENGTH else words[:MAX_LENGTH].rpartition(" ")[0]


async def message_of_group(conn: Connection, actor: str, error_class: str, frame: str, message: str) -> str:
    """The normalized message, or OTHERS if it would be a new group though there are MAX_GROUPS that differ only in their words.
    Then the words are values, which nothing marks as such, and each message would be a group and an alert of its own."""
    fits = await conn.value(
        """
        SELECT EXISTS (SELECT FROM failure_groups WHERE fingerprint = %s)
            OR (SELECT count(*) FROM failure_groups g WHERE actor = %s AND error_class = %s AND frame = %s AND (
                last_at > now() - make_interval(days => %s)
                OR EXISTS (SELECT FROM messages m WHERE m.fingerprint = g.fingerprint AND m.state = 'dead'))) < %s
        """,
        (fingerprint(actor, error_class, frame, message), actor, error_class, frame, QUIET_DAYS, MAX_GROUPS),
    )
    return message if fits else OTHERS


def _is_value(word: str) -> bool:
    """Whether the word is a number, an id, a time or an address."""
    return word == PLACEHOLDER or "@" in word or "://" in word or any(character.isdigit() for character in word)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """What is between quotes, with True, and what is outside of them, in order. An apostrophe within a word is no quote."""
    closing_at: dict[str, list[int]] = {closing: [] for closing in _CLOSING.values()}
    for at, character in enumerate(text):
        if character in closing_at and not text[at + 1 : at + 2].isalnum():
            closing_at[character].append(at)
    begin = at = 0
    while at < len(text):
        closing = _CLOSING.get(text[at])
        if closing is not None and _can_open(text, at):
            ends = closing_at[closing]
            if (next_one := bisect_right(ends, at)) < len(ends):
                yield text[begin:at], False
                yield text[at + 1 : ends[next_one]], True
                begin = at = ends[next_one] + 1
                continue
        at += 1
    yield text[begin:], False


def _can_open(text: str, at: int) -> bool:
    """Whether a quote begins there: not within a word, but after the mark of bytes, as in b'…'."""
    before = text[at - 1 : at]
    return not before.isalnum() or (before in "bru" and not text[max(0, at - 2) : at - 1].isalnum())
