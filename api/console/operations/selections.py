"""Which dead letters a page is about: the filters in its URL, or the ids that were chosen."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field, TypeAdapter, ValidationError

from api.console.forms import Form, FormModel
from schemas.base import Instant
from schemas.outbox.dead_letters.lists import Kind
from schemas.outbox.dead_letters.selecting import MAX_IDS, DeadLetterFilter, DeadLetterState, Select, SelectShown

TIME_NEEDED = "Send a day and a time, such as 2026-11-25T09:30."
SELECTION = ("ids", "all", "fingerprint", "actor", "queue", "since", "until", "q")
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class FilterForm(FormModel):
    """The filters of GET /api/dead-letters. Times without an offset are in the firm's time zone."""

    actor: Annotated[str | None, Field(max_length=100)] = None
    queue: Annotated[str | None, Field(max_length=100)] = None
    fingerprint: Annotated[str | None, Field(max_length=64)] = None
    since: Annotated[str | None, Field(max_length=40)] = None
    until: Annotated[str | None, Field(max_length=40)] = None
    q: Annotated[str | None, Field(max_length=200)] = None


class ListQuery(FilterForm):
    """The query of the list. `kind`: only messages of Stint, or only unrecognized ones."""

    UNSEEN = frozenset({"cursor"})

    state: DeadLetterState = "dead"
    kind: Kind | None = None
    cursor: Annotated[str | None, Field(max_length=400)] = None


class SelectionForm(FilterForm):
    """Dead letters to act on: these ids, or else all that meet the filters. `all`: without any filter."""

    UNSEEN = frozenset(SELECTION)

    ids: Annotated[list[UUID], Field(default_factory=list, max_length=MAX_IDS)]
    all: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen."""
        return not (self.ids or self.all or self.fingerprint or self.actor or self.queue or self.since or self.until or self.q)


def filter_of(form: Form[Any], zone: ZoneInfo) -> DeadLetterFilter | None:
    """The filter that was sent; None, with errors in the form, if it is not valid."""
    sent: FilterForm | None = form.value
    times = {name: _time(form, name, text, zone) for name in ("since", "until") if (text := getattr(sent, name, None))}
    if sent is None or form.is_wrong:
        return None
    return DeadLetterFilter(actor=sent.actor, queue=sent.queue, fingerprint=sent.fingerprint, q=sent.q, **times)


def select_of(sent: SelectionForm, filters: DeadLetterFilter, shown_at: datetime | None) -> Select:
    """The selection. It ends with what had died when the page was shown: nobody has seen what came later."""
    if sent.ids:
        return Select(ids=sent.ids) if shown_at is None else SelectShown(ids=sent.ids, shownAt=shown_at)
    ends = [time for time in (filters.until, shown_at) if time is not None]
    return Select(filter=filters.model_copy(update={"until": min(ends, default=None)}))


def pairs_of(form: Form[Any]) -> list[tuple[str, str]]:
    """The selection as it was sent, as names and values of a form or a query."""
    return [(name, value) for name in SELECTION for value in form.typed.get(name, []) if value]


def _time(form: Form[Any], name: str, text: str, zone: ZoneInfo) -> datetime | None:
    """The time that was typed; without a zone, it is in `zone`. None: it is no time, which is an error of the form."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        return _INSTANT.validate_python(found.astimezone(UTC).isoformat())
    except (ValueError, OverflowError, ValidationError):
        form.refuse(name, TIME_NEEDED)
        return None
