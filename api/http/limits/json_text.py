"""Strict JSON: what two parsers could read differently is refused, and so is what costs more time than a request may.

The sizes are checked before the text is parsed: 256 KiB hold 100,000 values, which take json, pydantic and pydantic's list of
errors half a second.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from api.http.problems import BadRequest

MAX_DEPTH = 32
NOT_JSON = "The body is not valid JSON"
MAX_DIGITS = 400  # of a number with a fraction or an exponent; the largest float has 309
TOO_MANY_DIGITS = "The JSON contains a number that is too large or has too many digits."

UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Bounds:
    """How much JSON a route reads: the number of values (objects, arrays, and what is in them), and of one object's fields."""

    values: int = 2_000
    fields: int = 100


JSON_BOUNDS = "json_bounds"  # in a handler's `opt`: other bounds than the default
DEFAULT_BOUNDS = Bounds()
FORM_BOUNDS = Bounds(values=20, fields=20)  # a few texts

# A JSON string; at the end of the text also one that is not closed, so that no quote is looked at twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OTHER_THAN_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
# a NUL or a half of a surrogate pair that is written as an escape; perhaps only a backslash and what looks like one
_UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def parse_json(body: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> Any:
    """The value of a JSON text. Raises BadRequest for anything that two JSON parsers could read differently, and for a text
    that exceeds `bounds`."""
    _check_size(body, bounds)

    def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise BadRequest(400, "The JSON has the same key twice in one object.")
        if len(result) > bounds.fields:
            raise BadRequest(400, f"The JSON has an object of {len(result):,} fields; no object has more than {bounds.fields}.")
        return result

    try:
        value = json.loads(
            body.decode(), object_pairs_hook=unique_fields, parse_float=_parse_finite, parse_constant=_reject_constant
        )
    except UnicodeDecodeError:
        raise BadRequest(400, "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(400, f"{NOT_JSON} (line {error.lineno}, column {error.colno}).") from None
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise BadRequest(400, TOO_MANY_DIGITS) from None
    if _UNSTORABLE_ESCAPE.search(body):  # the characters themselves are not valid in JSON, or in UTF-8
        _check_texts(value)
    return value


def _check_size(body: bytes, bounds: Bounds) -> None:
    structure = _STRING.sub(b"", body)
    brackets = structure.translate(None, _OTHER_THAN_BRACKETS)
    opening = brackets.count(b"[") + brackets.count(b"{")
    if structure.count(b",") + opening + 1 > bounds.values:
        raise BadRequest(400, f"The JSON has more than {bounds.values:,} values, which this route never needs.")
    if opening > MAX_DEPTH:
        depth = deepest = 0
        for bracket in brackets:
            depth += 1 if bracket in b"[{" else -1
            deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            raise BadRequest(400, f"The JSON is nested deeper than {MAX_DEPTH} levels.")


def _reject_constant(name: str) -> None:
    raise BadRequest(400, f"{name} is not JSON.")


def _parse_finite(text: str) -> float:
    # Python parses 1e999 as infinity, which JSON cannot represent
    if len(text) > MAX_DIGITS or math.isinf(number := float(text)):
        raise BadRequest(400, TOO_MANY_DIGITS)
    return number


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise BadRequest(400, "The JSON contains a NUL or half a surrogate pair.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
