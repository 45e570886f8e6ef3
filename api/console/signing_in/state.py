"""What one page of signing in tells the next: in a short-lived cookie, and a form that was not sent in hidden fields."""

from dataclasses import dataclass
from typing import Any

from litestar import Request, Response

from api.console.cookies import host_cookie, pack, read_cookie, unpack
from api.console.forms import Pairs
from api.console.urls import local_path

STATE = "__Host-stint-sign-in"
STATE_MINUTES = 15
KEPT_PATH, KEPT = "kept_path", "kept"  # fields of the pages of signing in: the path, and each pair as NAME=VALUE


def keep_state(response: Response[Any], state: dict[str, str]) -> None:
    """Keeps the state in the browser. It is not signed: it only names what its sender may send."""
    response.set_cookie(host_cookie(STATE, pack(state), STATE_MINUTES * 60))


def read_state(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The state that this browser keeps; empty without one."""
    found = unpack(read_cookie(request.scope, STATE))
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


@dataclass(frozen=True)
class KeptForm:
    """A form that was not sent, because its session had ended: its path, and its names and values."""

    path: str
    pairs: Pairs

    @classmethod
    def of(cls, sent: Pairs) -> "KeptForm | None":
        """The form that a page of signing in sends along, if there is one."""
        path = local_path(dict(sent).get(KEPT_PATH, ""), "")
        pairs = [(name, value) for name, _, value in (pair.partition("=") for key, pair in sent if key == KEPT)]
        return cls(path, pairs) if path else None
