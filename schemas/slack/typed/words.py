"""The words of a typed text, compared without capitals, quotes, punctuation and invisible characters."""

import unicodedata

QUOTES = "\"'`´“”„‟‘’‚‛«»‹›「」『』＂＇*_~()[]{}<>"
PUNCTUATION = ".,;:!?…¡¿-–—/\\|&+=#@"
MAX_WORD = 40  # characters that are compared: normalizing a text of combining marks takes quadratic time
_FRACTIONS = str.maketrans({"½": ".5", "¼": ".25", "¾": ".75"})
_INVISIBLE = str.maketrans(dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f\ufeff"))


def key(word: str) -> str:
    """The word as it is compared: "STOP." and "“ｓｔｏｐ”" are "stop". Empty if nothing but quotes and punctuation is left."""
    return normal(word).strip(QUOTES + PUNCTUATION)


def normal(word: str) -> str:
    """The word without capitals, with the usual form of each character, and with its punctuation."""
    # quotes are removed first: the usual form of an acute accent, typed for a quote, is a blank with an accent
    plain = word[:MAX_WORD].translate(_INVISIBLE).strip(QUOTES).translate(_FRACTIONS)
    return unicodedata.normalize("NFKC", plain).casefold()


def first_words(text: str, count: int) -> tuple[str, str]:
    """The first words of the text, normal, separated by one blank, and the text after them."""
    parts = text.split(None, count)
    rest = parts[count] if len(parts) > count else ""
    return " ".join(normal(part) for part in parts[:count]).strip(QUOTES + " "), rest


def is_one_error_apart(word: str, other: str) -> bool:
    """Whether one typing error makes one word of the other: a character more, less or another, or two in the wrong order."""
    if is_transposed(word, other):
        return True
    short, long = sorted((word, other), key=len)
    if len(long) - len(short) > 1 or short == long:
        return False
    same = next((n for n, (one, two) in enumerate(zip(short, long, strict=False)) if one != two), len(short))
    return short[same:] == long[same + 1 :] or short[same + 1 :] == long[same + 1 :]


def is_transposed(word: str, other: str) -> bool:
    """Whether the words are the same but for two neighbouring characters in the wrong order."""
    if len(word) != len(other):
        return False
    differ = [n for n, (one, two) in enumerate(zip(word, other, strict=True)) if one != two]
    if len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    first, second = differ
    return (word[first], word[second]) == (other[second], other[first])
