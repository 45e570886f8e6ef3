"""What one page of signing in tells the next: in a short-lived cookie, and a form that was not sent in hidden fields."""

import hmac
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar import Request, Response

from api.console.cookies import MAX_VALUE, host_cookie, pack, read_cookie, unpack
from api.console.forms import Pairs
from api.console.urls import local_path

STATE = "__Host-stint-sign-in"
ATTEMPTS = "__Host-stint-attempts"
MAX_ATTEMPTS = 5  # that a browser keeps
STATE_MINUTES = 15
KEPT_PATH, KEPT = "kept_path", "kept"  # fields of the pages of signing in: the path, and each pair as NAME=VALUE
FILLED_IN = {"version", "shown", "shown_at", "shown_replays", "step"}  # fields of other pages that no person types


def keep_state(response: Response[Any], state: dict[str, str]) -> None:
    """Keeps the state in the browser. It is not signed: it only names what its sender may send."""
    response.set_cookie(host_cookie(STATE, pack(state), STATE_MINUTES * 60))


def read_state(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The state that this browser keeps; empty without one."""
    return _texts(unpack(read_cookie(request.scope, STATE)))


def keep_attempt(request: Request[Any, Any, Any], response: Response[Any], attempt: dict[str, str]) -> None:
    """Keeps an attempt to sign in at the user pool beside the last ones, which other tabs of this browser have begun."""
    kept = [attempt, *_attempts(request)][:MAX_ATTEMPTS]
    while len(kept) > 1 and len(pack(kept)) > MAX_VALUE:
        kept.pop()
    response.set_cookie(host_cookie(ATTEMPTS, pack(kept), STATE_MINUTES * 60))


def find_attempt(request: Request[Any, Any, Any], state: str) -> dict[str, str] | None:
    """The attempt of this browser that has that `state`. None: there is none."""
    if not state:
        return None
    for attempt in _attempts(request):
        if hmac.compare_digest(attempt.get("state", "").encode(), state.encode()):
            return attempt
    return None


def drop_attempt(request: Request[Any, Any, Any], response: Response[Any], attempt: dict[str, str]) -> None:
    """Removes an attempt that was used. The cookie is deleted with the last one."""
    kept = [found for found in _attempts(request) if found != attempt]
    if kept:
        response.set_cookie(host_cookie(ATTEMPTS, pack(kept), STATE_MINUTES * 60))
    else:
        response.set_cookie(host_cookie(ATTEMPTS, "", 0))


def _attempts(request: Request[Any, Any, Any]) -> list[dict[str, str]]:
    found = unpack(read_cookie(request.scope, ATTEMPTS))
    return [_texts(attempt) for attempt in found] if isinstance(found, list) else []


def _texts(found: Any) -> dict[str, str]:
    """The fields of an object that are texts."""
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


@dataclass(frozen=True)
class KeptForm:
    """A form that was not sent, because its session had ended: its path, and its names and values."""

    path: str
    pairs: Pairs

    @property
    def typed(self) -> Pairs:
        """What a person recognizes of it: without ids, versions and what else the page has filled in."""
        return [(name, value) for name, value in self.pairs if value and name not in FILLED_IN and not _begins_with_id(value)]

    @classmethod
    def of(cls, sent: Pairs) -> "KeptForm | None":
        """The form that a page of signing in sends along, if there is one."""
        path = local_path(dict(sent).get(KEPT_PATH, ""), "")
        pairs: Pairs = []
        for key, pair in sent:
            if key == KEPT:
                name, _, value = pair.partition("=")
                pairs.append((name, value))
        return cls(path, pairs) if path else None


def _begins_with_id(text: str) -> bool:
    try:
        return bool(UUID(text[:36]))
    except ValueError:
        return False
