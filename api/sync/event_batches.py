"""The events of one read of changes, built once for all streams that get the same ones."""

from dataclasses import dataclass
from uuid import UUID

from schemas.identity.users import User
from schemas.sync.live_events import Change, Kind

Events = dict[bytes, None]  # encoded events: a set that keeps its order


@dataclass(frozen=True)
class Interest:
    """What a client wants to know of. `kinds`: None for all. `own`: of active timers, focus and time bills only the user's
    own."""

    kinds: frozenset[Kind] | None = None
    own: bool = False

    def includes(self, change: Change, user: User) -> bool:
        return (self.kinds is None or change.kind in self.kinds) and (not self.own or change.user_id in (None, user.id))


EVERYTHING = Interest()


@dataclass(frozen=True)
class Batch:
    """Encoded events, and the same as one text. Several streams share it, so nothing may change it."""

    events: Events
    text: bytes


class Batches:
    """The batches of one read, by what their readers may see and want."""

    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes
        self._owners = {change.user_id for change in changes}
        self._built: dict[tuple[UUID | None, Interest, UUID | None], Batch] = {}

    def of(self, user: User, interest: Interest) -> Batch:
        """The events for a stream of this user."""
        owner = user.id if interest.own and user.id in self._owners else None
        key = (user.customer_id, interest, owner)
        batch = self._built.get(key)
        if batch is None:
            batch = self._built[key] = self._build(user, interest)
        return batch

    def _build(self, user: User, interest: Interest) -> Batch:
        events = {
            _encoded(change): None
            for change in self._changes
            if (user.is_internal or change.customer_id == user.customer_id) and interest.includes(change, user)
        }
        return Batch(events, b"".join(events))


def _encoded(change: Change) -> bytes:
    return f'event: {change.kind}\ndata: {{"id":"{change.id}"}}\n\n'.encode()
