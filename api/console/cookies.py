"""Cookies of the console: only this host gets them, no script reads them, other sites do not send them with a write."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from litestar.datastructures import Cookie

MAX_VALUE = 4_000  # characters; browsers keep no larger one


def read_cookie(scope: Mapping[str, Any], name: str) -> str | None:
    """The value of the cookie of that name, if the request has one."""
    for header, value in scope["headers"]:
        if header == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == name and len(text) <= MAX_VALUE:
                    return str(text)
    return None


def host_cookie(name: str, value: str, seconds: int) -> Cookie:
    """A cookie that is sent only over https, or to this machine. Its name begins with `__Host-`. 0 seconds: the browser deletes
    it."""
    return Cookie(name, value=value, path="/", max_age=seconds, secure=True, httponly=True, samesite="lax")


def pack(value: Any) -> str:
    """The value as the text of a cookie. It is not signed: the client can change it."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unpack(text: str | None) -> Any:
    """What was packed; None for any other text, also for one that cannot be sent again: JSON may have half of a character."""
    try:
        found = json.loads(base64.urlsafe_b64decode(f"{text}===")) if text else None
        json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, binascii.Error, RecursionError):
        return None
