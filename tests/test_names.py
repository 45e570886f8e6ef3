"""The rule for names, in Python and in SQL: the same key for every character of Unicode and for any text."""

import random
import unicodedata

import psycopg
import pytest

from schemas.names import clean_name, clean_name_of_account, name_key
from tests.support.installation import new_database

# case pairs that are younger than the table in SQL (Unicode 14), for a Python that knows them
YOUNGER = {0x1C89, 0xA7CB, 0xA7CC, 0xA7DA, 0xA7DC, *range(0x10D50, 0x10D66), *range(0x16EA0, 0x16EB9), 0xA7CE, 0xA7D2, 0xA7D4}
TRICKY = "aAäÄßẞ ΣσςIıİ\u0307\u0301\u0345\u0308\u200d\u200b\u202e\t\u3000ＡﬁǅᾳΐÅÅ👩\ufe0f"

SAME = {
    "NFC and NFD": ("Café", "Cafe\u0301"),
    "case": ("STRASSE Ä", "straße ä"),
    "zero width": ("Net\u200bwork", "Network"),
    "marks of direction": ("\u202eNetwork\u202c", "Network"),
    "a byte order mark": ("\ufeffNetwork", "Network"),
    "blanks": ("  Net\u00a0\u3000work\t", "net work"),
    "full width": ("Ｎｅｔｗｏｒｋ", "network"),
    "final sigma": ("ΟΔΟΣ", "οδος"),
    "a soft hyphen": ("Net\u00adwork", "Network"),
    "the variant of an emoji": ("☎\ufe0f Support", "☎ support"),
}
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
CLEANED = {
    "outer blanks": (" \u3000Network\u00a0\n", "Network"),
    "marks of direction": ("\u202eNet\u2066work\u2069", "Network"),
    "zero width": ("Net\u200b\u2060work\ufeff", "Network"),
    "control characters": ("Net\x07\x1bwork", "Network"),
    "a family": ("👩\u200d👩\u200d👧 Family", "👩\u200d👩\u200d👧 Family"),
    "a flag": (ENGLAND, ENGLAND),
    "a variant": ("☎\ufe0f", "☎\ufe0f"),
    "Persian": ("می\u200cخواهم", "می\u200cخواهم"),
    "a joiner at the end": ("Network\u200d", "Network"),
    "line breaks": ("Do\r\n\r\n it\u2028now\u2029or\x85never\x0b\x0cagain\x1c\x1fhere", "Do it now or never again here"),
    "a tab among blanks": ("Fix \u00a0\t it", "Fix it"),
    "a line break beside what is not seen": ("Fix\n\u200b\nit\u200d\n", "Fix it"),
    "as it is written": ("Cafe\u0301 STRASSE", "Cafe\u0301 STRASSE"),
    "blanks": ("Acme  \u00a0Ltd", "Acme  \u00a0Ltd"),
    "a joiner that shows": ("\u09b0\u200d\u09cd\u09af", "\u09b0\u200d\u09cd\u09af"),
}  # fmt: skip


def keys_in_sql(url: str, names: list[str]) -> list[str]:
    with psycopg.connect(url) as conn:
        query = "SELECT name_key(name) FROM unnest(%s::text[]) WITH ORDINALITY AS n (name, at) ORDER BY at"
        return [key for (key,) in conn.execute(query, (names,))]


@pytest.fixture(scope="module")
def database(database_url: str) -> str:
    return new_database(database_url)


def test_python_and_sql_have_the_same_key_for_every_character(database: str) -> None:
    known = [chr(code) for code in range(1, 0x110000) if code not in YOUNGER and not 0xD800 <= code < 0xE000]
    known = [character for character in known if unicodedata.category(character) != "Cn"]
    keys = keys_in_sql(database, known)
    different = [hex(ord(name)) for name, key in zip(known, keys, strict=True) if name_key(name) != key]
    assert different == []


def test_python_and_sql_have_the_same_key_for_any_text(database: str) -> None:
    pick = random.Random(16)
    known = [chr(code) for code in range(1, 0x30000) if code not in YOUNGER and not 0xD800 <= code < 0xE000]
    known = [character for character in known if unicodedata.category(character) != "Cn"]
    names = ["".join(pick.choices(source, k=pick.randrange(1, 12))) for source in (known, TRICKY) for _ in range(10_000)]
    keys = keys_in_sql(database, names)
    assert [ascii(name) for name, key in zip(names, keys, strict=True) if name_key(name) != key] == []
    assert [ascii(name) for name, key in zip(names, keys_in_sql(database, keys), strict=True) if name_key(name) != key] == []


@pytest.mark.unit
@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_names_that_look_the_same_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.unit
def test_names_that_look_different_are_different() -> None:
    names = ["Network", "Net work", "Netw0rk", "Nétwork", "Network 2", "Nеtwork"]  # the last one has a Cyrillic e
    assert len({name_key(name) for name in names}) == len(names)


@pytest.mark.unit
@pytest.mark.parametrize(("written", "stored"), CLEANED.values(), ids=CLEANED)
def test_a_name_is_stored_as_written_without_what_nobody_sees(written: str, stored: str) -> None:
    assert clean_name(written) == stored
    assert name_key(written) == name_key(stored)
    assert clean_name(stored) == stored


@pytest.mark.unit
@pytest.mark.parametrize("hidden", ["\u034f", "\u200d", "\u200c", "\ufe0f", "\u034f\u200d"])
@pytest.mark.parametrize(("before", "after"), [("Vie\u0302", "\u0323t"), ("\u05d0\u05bc", "\u05b0"), ("Cafe\u0301", "\u0327")])
def test_a_name_has_nothing_hidden_that_keeps_marks_in_another_order(before: str, hidden: str, after: str) -> None:
    stored = clean_name(before + hidden + after)
    assert stored == before + after
    assert name_key(stored) == name_key(unicodedata.normalize("NFC", before + after))


@pytest.mark.unit
@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u202e\u202c", "\u3164", "\u2800", "\ufe0f", "\u200d\u200d", "\x07"])
def test_a_name_in_which_nothing_can_be_seen_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can be seen"):
        clean_name(name)


@pytest.mark.unit
def test_a_provider_may_state_a_name_in_which_nothing_can_be_seen() -> None:
    assert clean_name_of_account("Jo\n\u202eMiller\t") == "Jo Miller"
    assert clean_name_of_account("\u200b\n") == clean_name_of_account("") == ""
