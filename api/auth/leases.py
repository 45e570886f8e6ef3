"""What a process has read of a user, used again for a short time, so that not every request reads it (decision 38)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from api.auth.tokens import Token
from schemas.identity.users import User
from schemas.postgres.connection import LEASE_SECONDS

# On Linux it counts the time in which the machine is suspended, too.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Shorter than what a change of access waits: clocks of two machines may run at rates that differ a little.
MAX_AGE_SECONDS = 0.95 * LEASE_SECONDS


@dataclass(frozen=True)
class Session:
    """A user with a valid token. `ends_at`: when the token expires, by time.monotonic(). `began_at`: when the user signed in,
    in seconds since 1970, by the clock of the identity provider."""

    user: User
    ends_at: float
    began_at: float


def clock() -> float:
    """The clock of the age of a lease, in seconds."""
    return time.clock_gettime(CLOCK)


class Leases:
    """The sessions of tokens that were accepted less than MAX_AGE_SECONDS ago. One stays while the verifier keeps its token, so
    there are no more of them."""

    def __init__(self, clock: Callable[[], float] = clock) -> None:
        self.clock = clock
        self._leases: WeakKeyDictionary[Token, tuple[float, Session]] = WeakKeyDictionary()

    def find(self, token: Token) -> Session | None:
        """The session to accept the token with, without reading its user."""
        found = self._leases.get(token)
        return found[1] if found is not None and self.clock() < found[0] else None

    def keep(self, token: Token, session: Session, *, read_at: float, seconds_left: float) -> None:
        """`read_at`: by `clock`, before the read was sent whose result the session is of. After the read would be too late: a
        change that it did not see may have been committed, and have waited, since it was sent. `seconds_left`: from the read
        until the token expires."""
        self._leases[token] = (read_at + min(MAX_AGE_SECONDS, seconds_left), session)
