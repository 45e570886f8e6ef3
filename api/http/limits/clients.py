"""A limit on the requests of one client to routes that need no token, counted before their body is read.

It limits what a client can make this process compute, so each process counts for itself, in memory, without a statement. What a
client may cause (mails, tries of a code) is limited in Postgres, by the routes themselves.
"""

import math
import time
from collections import OrderedDict
from typing import Any

from litestar import Request

from api.http.requests import client_key
from schemas.errors import RateLimited

COUNT_CLIENT = "count_client"  # in a handler's `opt`: its clients are counted
MAX_CLIENTS = 10_000  # that are remembered


class ClientLimit:
    """Allows each client `burst` requests at once, and as many again in each minute (GCRA)."""

    def __init__(self) -> None:
        self._refilled_at: OrderedDict[str, float] = OrderedDict()

    def consume(self, key: str, burst: int) -> None:
        """Counts one request of the client. Raises RateLimited, and counts nothing, if it has had too many."""
        seconds, now = 60 / burst, time.monotonic()
        refilled_at = max(now, self._refilled_at.get(key, now))
        if (wait := refilled_at - now - (burst - 1) * seconds) > 0:
            raise RateLimited("Too many requests from your network; send fewer.", seconds=math.ceil(wait))
        self._refilled_at[key] = refilled_at + seconds
        self._refilled_at.move_to_end(key)
        if len(self._refilled_at) > MAX_CLIENTS:
            self._refilled_at.popitem(last=False)


_limit = ClientLimit()  # of this process


def consume_client(request: Request[Any, Any, Any]) -> None:
    """Counts the client of a request. Raises RateLimited."""
    _limit.consume(client_key(request), request.app.state.context.settings.stint_client_requests)


def count_client(request: Request[Any, Any, Any]) -> None:
    """Counts the client of a request if its route says so. Raises RateLimited."""
    if request.route_handler.opt.get(COUNT_CLIENT):
        consume_client(request)
