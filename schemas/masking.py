"""Masks secrets in the bodies, errors and tracebacks of messages before they are shown to anybody."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from schemas import setting_values
from schemas.settings import Settings

MASK = "•••"

# fields whose value is a secret, by their name
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|authorization|cookie|credential|signature|api_?key|private_?key|(^|_)code$|^pwd$",
    re.IGNORECASE,
)
# Secrets in a text, with what precedes them in the first group, which is kept. Anybody can send such a text (a lead, a message
# in RabbitMQ), so each pattern takes time in proportion to its length: no part of it can be matched from many starts. That is
# why runs are possessive (`*+`), why a run is only looked at from its beginning, and why nothing precedes a name.
# tests/test_regexes.py measures them.

# the name of a secret in a text: `password=…`, `"api_key": "…"`, also in JSON that is quoted within JSON
_NAMED = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|cookie|credentials?|api[_-]?key|private[_-]?key|signature)"
_BETWEEN = rf"{_NAMED}\\*+[\"']?+\s*+[=:]\s*+[bBuUrR]?"
_KEY_NAME = "[A-Z ]{0,40}PRIVATE KEY-----"
# In lower case, what each text has that matches the pattern: one of these. To look for them first takes a tenth of the time.
_NAMES = (
    *("passw", "passphrase", "pwd", "secret", "token", "cookie", "credential", "signature"),
    *("apikey", "privatekey", "_key", "-key"),
)
_PATTERNS: list[tuple[tuple[str, ...], re.Pattern[str]]] = [
    # a JWT; the lookahead shows that a dot follows, before the run is searched for its start
    (("eyj",), re.compile(r"((?<![\w-])(?=[\w-]*+\.[\w-])[\w-]*?\b)eyJ[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+)*+")),
    (("bearer", "basic"), re.compile(r"((?:bearer|basic)\s++)[\w.~+/=-]{8,}+", re.IGNORECASE)),  # an Authorization header
    # the password in a URL
    (("://",), re.compile(r"((?<=[a-z0-9+.-])://[^\s/:@\"'\\]*+:)[^\s/@\"'\\]++(?=@)", re.IGNORECASE)),
    (("xox", "xapp-"), re.compile(r"()\bx(?:ox[a-z]|app)-[\w-]{8,}+")),  # a token of Slack's
    # who has this URL can post to the channel for a while
    (("https://hooks.slack",), re.compile(r"()\bhttps://hooks\.slack(?:-gov)?\.com/[\w/-]++")),
    (("-----begin ",), re.compile(rf"()-----BEGIN {_KEY_NAME}(?:[^-]|-(?!----(?:BEGIN|END)))*+-----END {_KEY_NAME}")),
    (("-----begin ",), re.compile(rf"()-----BEGIN {_KEY_NAME}[\w\s+/=\\]*+")),  # a private key that was cut off
    # A quoted value, up to the closing quote. Within JSON in JSON, a quote has one, three or seven backslashes. Of each quote
    # only the last one in a line can be without its end.
    (_NAMES, re.compile(rf"({_BETWEEN}(?P<quote>\\{{0,7}}[\"']))[^\r\n]*?(?<!\\)(?=(?P=quote))", re.IGNORECASE)),
    # an unquoted value, or one whose quote is never closed
    (_NAMES, re.compile(rf"({_BETWEEN}(?:\\*+[\"'])?)[^\s\"'\\&,;)}}\]]++", re.IGNORECASE)),
]
_LONGEST_CACHED = 100  # characters of a name


class Redactor:
    """Replaces secrets with MASK: what has the form or the name of a secret, and the values of this installation's own secret
    settings."""

    def __init__(self, settings: Settings) -> None:
        self._own_secrets = _secrets_of(settings)

    def text(self, text: str) -> str:
        """The text with secrets masked."""
        # of other alphabets, some characters match ASCII ones in another case
        lower = text.lower() if text.isascii() else None
        for secret in self._own_secrets:
            text = text.replace(secret, MASK)
        for needed, pattern in _PATTERNS:
            for part in needed:  # a loop, because `any` takes three times as long
                if lower is None or part in lower:
                    text = pattern.sub(rf"\g<1>{MASK}", text)
                    break
        return text

    def json(self, value: Any, name: str = "") -> Any:
        """The JSON value with secrets masked: all of a field whose name is that of a secret, and secrets within other texts."""
        if isinstance(value, dict):
            return {key: self.json(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, name) for item in value]
        if value is not None and not isinstance(value, bool) and _is_secret_name(name):
            return MASK
        return self.text(value) if isinstance(value, str) else value

    def restore(self, edited: Any, original: Any) -> Any:
        """The edited value, in which texts that are still as `json` masked them have their original value again."""
        if isinstance(edited, dict) and isinstance(original, dict):
            return {key: self.restore(item, original.get(key)) for key, item in edited.items()}
        if isinstance(edited, list) and isinstance(original, list) and len(edited) == len(original):
            return [self.restore(item, before) for item, before in zip(edited, original, strict=True)]
        if not isinstance(edited, str) or MASK not in edited:
            return edited
        is_masked = edited == MASK or (isinstance(original, str) and edited == self.text(original))
        return original if is_masked else edited


def leftover_mask(edited: Any, original: Any, path: str = "body") -> str | None:
    """The path of a mask that `restore` could not replace and that was not in the original: stored, it would overwrite the
    secret. None if there is none."""
    if isinstance(edited, dict):
        before = original if isinstance(original, dict) else {}
        paths = (leftover_mask(item, before.get(key), f"{path}.{key}") for key, item in edited.items())
        return next((found for found in paths if found), None)
    if isinstance(edited, list):
        # items may have moved, so a text that is anywhere in the original list is not a mask
        if isinstance(original, list):
            original = frozenset(item for item in original if isinstance(item, str))
        paths = (leftover_mask(item, original, f"{path}.{number}") for number, item in enumerate(edited))
        return next((found for found in paths if found), None)
    if not isinstance(edited, str) or MASK not in edited:
        return None
    return None if edited == original or (isinstance(original, frozenset) and edited in original) else path


def _is_secret_name(name: str) -> bool:
    return _cached_secret_name(name) if len(name) <= _LONGEST_CACHED else _looks_secret(name)


def _looks_secret(name: str) -> bool:
    snake_case = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return _SECRET_NAME.search(snake_case) is not None


_cached_secret_name = lru_cache(maxsize=1_000)(_looks_secret)  # most names are those of the same few models


def _secrets_of(settings: Settings) -> tuple[str, ...]:
    """The values of the secret settings and the passwords in URLs, also in lower case, as the words of a group have them. The
    longest first."""
    values = settings.model_dump().values()
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    parts = {part.strip() for secret in secrets for part in (secret, *secret.split(","))}
    parts |= {form for value in (*values, *secrets, *parts) if isinstance(value, str) for form in _passwords(value)}
    parts |= {part.lower() for part in parts}
    return tuple(sorted((part for part in parts if len(part) >= 8), key=len, reverse=True))


def _passwords(value: str) -> Iterator[str]:
    """The passwords in a URL, or in a list of URLs of RabbitMQ: as written there, and decoded, as the server gets them."""
    try:
        texts = setting_values.amqp_urls(value) if value.startswith("amqp") else [value]
        urls = [urlsplit(text) for text in texts]
    except ValueError:
        return
    for url in urls:
        parameters = [pair.partition("=") for pair in url.query.split("&")]
        passwords = [text for name, _, text in parameters if _is_secret_name(name)]
        for password in (url.password or "", *passwords):
            yield password
            yield unquote(password)
