"""What is secret in the bodies, errors and tracebacks of messages is masked before anybody is shown them."""

import re
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from schemas.settings import SettingsMissing, settings

MASK = "•••"

# a field whose name says that its value opens something
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|authorization|cookie|credential|signature|api_?key|private_?key|(^|_)code$|^pwd$",
    re.IGNORECASE,
)
# the same in a text: `password=…`, `"api_key": "…"`, also where JSON stands quoted within JSON
_NAMED = r"\b[\w-]*(?:pass(?:word|wd|phrase)|pwd|secret|token|cookie|credentials?|api[_-]?key|private[_-]?key|signature)"
_BETWEEN = rf"{_NAMED}\\*[\"']?\s*[=:]\s*[bBuUrR]?"
# what can be told by its looks, wherever it stands; the part that is kept comes first
_LOOKS = [
    re.compile(r"()\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*"),  # a JWT
    re.compile(r"((?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE),  # an Authorization header
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\"'\\]*:)[^\s/@\"'\\]+(?=@)", re.IGNORECASE),  # a URL's password
    re.compile(r"()\bx(?:ox[a-z]|app)-[\w-]{8,}"),  # Slack's
    re.compile(r"()\bhttps://hooks\.slack\.com/[\w/-]+"),  # opens a channel for a while
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]|-(?!----END))*-----END [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----[\w\s+/=\\]*"),  # what is left of one that was cut off
    # up to the quote that ends it, spaces and all; then what stands without quotes, or behind one that is never closed
    re.compile(rf"({_BETWEEN}(?P<quote>\\*[\"']))[^\r\n]*?(?<!\\)(?=(?P=quote))", re.IGNORECASE),
    re.compile(rf"({_BETWEEN}(?:\\*[\"'])?)[^\s\"'\\&,;)}}\]]+", re.IGNORECASE),
]


def masked_text(text: str) -> str:
    """The text without what looks like a secret, and without the values of this installation's own."""
    for own in _own_secrets():
        text = text.replace(own, MASK)
    for looks in _LOOKS:
        text = looks.sub(rf"\g<1>{MASK}", text)
    return text


def masked(value: Any, name: str = "") -> Any:
    """The JSON value without secrets: those of fields that are named like one, and what looks like one anywhere."""
    if isinstance(value, dict):
        return {key: masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if value is not None and not isinstance(value, bool) and _SECRET_NAME.search(_snake(name)):
        return MASK
    return masked_text(value) if isinstance(value, str) else value


def unmasked(edited: Any, original: Any) -> Any:
    """What somebody made of a masked value, with what they left masked as it was."""
    if isinstance(edited, dict) and isinstance(original, dict):
        return {key: unmasked(item, original.get(key)) for key, item in edited.items()}
    if isinstance(edited, list) and isinstance(original, list) and len(edited) == len(original):
        return [unmasked(item, before) for item, before in zip(edited, original, strict=True)]
    shown = (MASK, masked_text(original)) if isinstance(original, str) else (MASK,)
    return original if isinstance(edited, str) and MASK in edited and edited in shown else edited


def half_masked(edited: Any, original: Any, path: str = "body") -> str | None:
    """Where a mask is still in what `unmasked` returned, and was not in the original: written there, it would take the place
    of the secret. None: nowhere."""
    if isinstance(edited, dict):
        before = original if isinstance(original, dict) else {}
        found = (half_masked(item, before.get(key), f"{path}.{key}") for key, item in edited.items())
        return next((place for place in found if place), None)
    if isinstance(edited, list):
        # items may have moved: what was anywhere in the original list is no mask of ours
        found = (half_masked(item, original, f"{path}.{number}") for number, item in enumerate(edited))
        return next((place for place in found if place), None)
    masked_now = isinstance(edited, str) and MASK in edited
    known = edited == original or (isinstance(original, list) and edited in original)
    return path if masked_now and not known else None


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@cache
def _own_secrets() -> tuple[str, ...]:
    """The values of the settings that are secret, longest first; and the passwords in URLs."""
    try:
        values = settings().model_dump().values()
    except SettingsMissing:
        return ()
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    parts = {part.strip() for secret in secrets for part in (secret, *secret.split(","))}
    parts |= {form for value in (*values, *secrets) if isinstance(value, str) for form in _passwords(value)}
    return tuple(sorted((part for part in parts if len(part) >= 8), key=len, reverse=True))


def _passwords(url: str) -> tuple[str, ...]:
    """The password in a URL, as it stands there and as it is said to the server."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return ()
    return password, unquote(password)
