"""Every message, one frozen model each, named in the imperative; its actor is the same name in snake_case.

The model is the body, checked when it is put, when it is edited and when it is handled. The queue is part of the class.
"""

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import Misfit

DEFAULT_ALLOWANCE = 5  # attempts
# Declared from the start, each with a worker of its own kind: slow Xero never delays a stop.
QUEUES = ("timers", "bills", "xero", "slack", "mail")


# Each message's model, by its actor's name.
MODELS: "dict[str, type[Message]]" = {}


class Message(BaseModel):
    """A piece of work that was promised. Subclasses say `class StopTimer(Message, queue="timers")`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: ClassVar[str]
    queue: ClassVar[str]
    allowance: ClassVar[int]  # attempts before it is a dead letter
    deadline_seconds: ClassVar[float]  # of the handler; for a call-out, of the call
    ahead_seconds: ClassVar[float]  # it goes before all that waits in its queue for less than that: somebody sits there for it

    def __init_subclass__(
        cls,
        *,
        queue: str,
        allowance: int = DEFAULT_ALLOWANCE,
        deadline_seconds: float = 25,
        ahead_seconds: float = 0,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        if queue not in QUEUES:
            raise TypeError(f"{cls.__name__}: {queue!r} is no queue of ours; take one of {', '.join(QUEUES)}")
        cls.actor = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.queue, cls.allowance = queue, allowance
        cls.deadline_seconds, cls.ahead_seconds = deadline_seconds, ahead_seconds
        MODELS[cls.actor] = cls


def check_body(actor: str, body: object) -> Message:
    """The body as its actor's message. Raises Misfit when there is no such actor, or the body does not fit it."""
    if (model := MODELS.get(actor)) is None:
        raise Misfit(f"there is no actor {actor} in this version", path="actor")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors(include_input=False)]
        text = "; ".join(f"{path}: {message}" for path, message in faults)
        raise Misfit(f"the body no longer fits {actor}: {text}", path=faults[0][0]) from None


class StopTimer(Message, queue="timers"):
    """A timer was stopped: make it a time entry on its bill. Carries the facts, since the timer is gone already."""

    entry_id: UUID
    user_id: UUID
    task_id: UUID
    start_time: datetime
    end_time: datetime
    notes: str


class RecomputeBills(Message, queue="bills"):
    """Entries of these bills changed: sum them again. An approved bill is left as it is."""

    bill_ids: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=1000)]


class MoveEntries(Message, queue="bills"):
    """A task has another customer or pillar: its entries that are not on approved bills follow, and their bills with them.
    A chunk of them; what is left over goes into the next message."""

    task_id: UUID


class Link(BaseModel):
    """Where a mail leads to: a button in HTML, a line in plain text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    url: str


class SendMail(Message, queue="mail", allowance=15, deadline_seconds=30):
    """One mail to one recipient, so that trying again repeats it for nobody else."""

    to: str
    subject: str
    paragraphs: tuple[str, ...]
    link: Link | None = None
    reply_to: str | None = None


class SendCode(Message, queue="mail", allowance=15, deadline_seconds=30, ahead_seconds=86_400):
    """Somebody asked for a code to sign in with. It is made when it is sent, so that it lies nowhere readable."""

    email: str
    asked_at: datetime


class RemindInvited(Message, queue="mail", allowance=15, deadline_seconds=15):
    """Somebody was invited and has not come yet: let the identity provider, which writes its own mail, write to them again."""

    email: str


class RemoveAccount(Message, queue="mail", allowance=15, deadline_seconds=15):
    """Somebody's access was taken away here, from that moment on: take their account away at the identity provider, too."""

    username: str


class Recompute(Message, queue="bills"):
    """The next chunk of a recompute job; `after` is the last row of the one before it."""

    job_id: UUID
    phase: Literal["entries", "bills"] = "entries"
    after: str | None = None


class AnswerSlack(Message, queue="slack", deadline_seconds=8):
    """Says something to one person in Slack, at the URL that came with what they did. `replace` puts it in the place of the
    message that the button stood in."""

    response_url: str
    text: str
    replace: bool = False


class PostTaskCreated(Message, queue="slack", allowance=15, deadline_seconds=15):
    """A task was created in Slack: confirm it in the channel, if that is its customer's, else to its creator alone."""

    task_id: UUID
    channel_id: str
    slack_user_id: str


class UpdateView(Message, queue="slack", deadline_seconds=8):
    """Puts what it was waiting for into a modal that is open, after Slack did not take it from the request itself."""

    view_id: str
    view: dict[str, Any]


class NudgeOwner(Message, queue="slack", allowance=15, deadline_seconds=15):
    """A timer has run for long, if it still runs when this is due: ask its owner."""

    timer_id: UUID
    user_id: UUID


class SyncBill(Message, queue="xero", allowance=25, deadline_seconds=20):
    """Make Xero agree with the bill: approved, one time entry with its minutes; anything else, none. Safe at any time."""

    bill_id: UUID


class QueueBills(Message, queue="bills"):
    """Approved bills that waited for something may go to Xero now: somebody connected it (`connected`), or mapped what was not
    (`mapped`, of that customer or of all). A chunk of them; `after` is the last bill of the one before it."""

    because: Literal["connected", "mapped"]
    customer_id: UUID | None = None
    after: UUID | None = None


class CheckInvoiced(Message, queue="xero", deadline_seconds=20):
    """Ask Xero which entries of a project are invoiced by now; puts its successor, for later or for the next page."""

    project_id: str | None = None
    page: int = 1
