"""The token with which a command asks an API process what is wrong: the present time, signed with SECRET_KEY.

A person who knows SECRET_KEY can read all that Stint stores, so the token has no user, and no Postgres is needed to check one.
It is valid for a minute, and only for this. The module imports little, because commands use it.
"""

import hashlib
import hmac

VALID_SECONDS = 60  # before and after its time, since the clocks of two hosts differ
_PURPOSE = "stint: what is wrong, asked at "  # another one would sign other tokens


class WrongToken(Exception):
    """The text is no token that one of the keys has signed."""


class NotNow(WrongToken):
    """The token was signed with one of the keys, for another time than now."""


def sign(secret_key: str, *, now: float) -> str:
    """A token, by the first key of SECRET_KEY. `now`: seconds since 1970."""
    at = str(int(now))
    return f"{at}.{_signature(_keys(secret_key)[0], at)}"


def check(token: str, secret_key: str, *, now: float) -> None:
    """Returns if one of the keys of SECRET_KEY has signed the token within the last minute. Raises WrongToken or NotNow."""
    at, _, signature = token.partition(".")
    if not (at.isascii() and at.isdecimal() and len(at) <= 12 and signature.isascii()):
        raise WrongToken("This is no token of a command.")
    if not any([hmac.compare_digest(signature, _signature(key, at)) for key in _keys(secret_key)]):
        raise WrongToken("No key of SECRET_KEY has signed this token.")
    if abs(difference := int(at) - now) > VALID_SECONDS:
        raise NotNow(f"The token is of another time: the clock that it was made by is {difference:+,.0f} s from this one.")


def _keys(secret_key: str) -> list[str]:
    return [key.strip() for key in secret_key.split(",") if key.strip()]


def _signature(key: str, at: str) -> str:
    return hmac.new(key.encode(), f"{_PURPOSE}{at}".encode(), hashlib.sha256).hexdigest()
