"""All messages. Each is a frozen model with an imperative name. The actor that handles it has the same name in snake_case.

The fields of the model are the body. It is validated when the message is enqueued, edited and handled. Each class has a queue.
"""

import re
from datetime import date
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import wording
from schemas.base import Instant, Second
from schemas.errors import InvalidBody

DEFAULT_MAX_ATTEMPTS = 5
# Each queue can have workers of its own, so that a slow Xero does not delay the stop of a timer.
QUEUES = ("timers", "bills", "xero", "slack", "mail")


# The models, by the actor's name. Filled by __init_subclass__.
MODELS: "dict[str, type[Message]]" = {}


class Message(BaseModel):
    """The base class of messages: `class StopTimer(Message, queue="timers")`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    actor: ClassVar[str]
    queue: ClassVar[str]
    max_attempts: ClassVar[int]  # after this many failed attempts it is dead
    timeout_seconds: ClassVar[float]  # of the handler's transaction, or of its external call
    # available_at is set this much into the past, so it overtakes messages that became due less than this ago. For messages
    # that a person waits for.
    priority_seconds: ClassVar[float]

    def __init_subclass__(
        cls,
        *,
        queue: str,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        timeout_seconds: float = 25,
        priority_seconds: float = 0,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        if queue not in QUEUES:
            raise TypeError(f"{cls.__name__}: there is no queue {queue!r}; the queues are {', '.join(QUEUES)}")
        cls.actor = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.queue, cls.max_attempts = queue, max_attempts
        cls.timeout_seconds, cls.priority_seconds = timeout_seconds, priority_seconds
        MODELS[cls.actor] = cls


def parse_body(actor: str, body: object) -> Message:
    """The body as its actor's model. Raises InvalidBody if there is no such actor, or if the body does not fit the model."""
    if (model := MODELS.get(actor)) is None:
        raise InvalidBody(f"there is no actor {actor} in this version", path="actor")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        errors = wording.problems(model, error)
        raise InvalidBody(f"the body no longer fits {actor}: {wording.sentence(errors)}", path=errors[0].path) from None


class StopTimer(Message, queue="timers"):
    """A timer was stopped: create its time entry and add it to a bill. Contains all facts, because the timer is deleted
    already."""

    entry_id: UUID
    user_id: UUID
    task_id: UUID
    start_time: Second
    end_time: Second
    notes: str


class RecomputeBills(Message, queue="bills"):
    """Entries of these bills have changed: recalculate the sums. Approved bills do not change."""

    bill_ids: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=1000)]


class MoveEntries(Message, queue="bills"):
    """A task has another customer or pillar: move its entries that are not on approved bills to the matching bills. A message
    moves one chunk of entries. The handler enqueues another message for the rest."""

    task_id: UUID


class Link(BaseModel):
    """A link in a mail: a button in HTML, a line in plain text."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    text: str
    url: str


class SendMail(Message, queue="mail", max_attempts=15, timeout_seconds=30):
    """Send a mail. One recipient each, so that a retry does not repeat it for others."""

    to: str
    subject: str
    paragraphs: tuple[str, ...]
    link: Link | None = None
    reply_to: str | None = None


class SendCode(Message, queue="mail", max_attempts=15, timeout_seconds=30, priority_seconds=86_400):
    """Mail a sign-in code. The handler creates the code, so that it is not stored in readable form."""

    email: str
    asked_at: Instant
    code_id: UUID | None = None  # the id that the code gets
    client: str | None = None  # the network of the client that asks


class RemindInvited(Message, queue="mail", max_attempts=15, timeout_seconds=15):
    """Repeat an invitation that was not accepted yet. The identity provider outside sends its own mail."""

    email: str


class RemoveAccount(Message, queue="mail", max_attempts=15, timeout_seconds=15):
    """Delete the account at the identity provider of a user whose access was removed. In Stint it is removed already."""

    username: str


class ReadUserPool(Message, queue="mail", max_attempts=15, timeout_seconds=100):
    """Read all accounts of the user pool, and revoke the access of those that are disabled or deleted. It runs again and again:
    the handler reschedules it."""


class Recompute(Message, queue="bills"):
    """Process the next chunk of a recompute job. `after` is the last row of the previous chunk."""

    job_id: UUID
    phase: Literal["entries", "bills"] = "entries"
    after: str | None = None


class AnswerSlack(Message, queue="slack", timeout_seconds=8):
    """Answer one person in Slack, at the response URL of their command or click.

    - `replace`: the answer replaces the message with the button that was clicked, which others may see.
    - `blocks`: Slack shows these, and the text only in notifications.
    - `message_key`: it is the change of that message with that `version`. If there is a later change, nothing is done.
    """

    response_url: str
    text: str
    replace: bool = False
    blocks: list[dict[str, Any]] | None = None
    message_key: str | None = None
    version: int = 0


class PostTaskCreated(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """A task was created in Slack: confirm it in the channel if the channel is mapped to its customer. Otherwise confirm it
    only to its creator."""

    task_id: UUID
    channel_id: str
    slack_user_id: str


class UpdateView(Message, queue="slack", timeout_seconds=8):
    """Update an open modal with its content, after the update from the request itself failed."""

    view_id: str
    view: dict[str, Any]


class CheckSlackAccess(Message, queue="slack", timeout_seconds=8):
    """Ask Slack whether the bot token is valid and has the scopes that calls need, after one was refused. It runs again and
    again until access is there: the handler reschedules it."""


class PreviewLinks(Message, queue="slack", timeout_seconds=15):
    """Somebody posted links to tasks: show what they lead to, if the channel may show it."""

    channel_id: str
    slack_user_id: str
    source: str
    unfurl_id: str
    urls: tuple[str, ...]


class PublishHome(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """Show a person's App Home as it is when this is handled. At most one waits for each Home: `homes.request` enqueues it."""

    slack_id: str


class NudgeOwner(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """Remind the owner of a timer that has been running for long, if it is still running when this message is due."""

    timer_id: UUID
    user_id: UUID


class PostApprovals(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """Send an admin the time bills to approve, if it is still that day."""

    user_id: UUID
    day: date


class RemindOfHours(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """Remind a person of hours that are missing on that day, or of a timer that runs. With `week`, send the summary of the week
    before instead. Nothing is sent if it would not be true any more."""

    user_id: UUID
    day: date
    week: bool = False


class ShowApprovals(Message, queue="slack", timeout_seconds=8):
    """Replace an admin's list of time bills to approve by the present one, after a decision. `text`, in mrkdwn, is the result
    of the decision. With `customer_id`, only bills of that customer are shown."""

    response_url: str
    user_id: UUID
    customer_id: UUID | None
    text: str


class TellRejection(Message, queue="slack", max_attempts=15, timeout_seconds=15):
    """Tell the owner of a time bill that it was rejected, if it still is. `version` is that of the bill after the rejection."""

    bill_id: UUID
    version: int
    rejected_by: UUID


class SyncBill(Message, queue="xero", max_attempts=25, timeout_seconds=20):
    """Sync a bill to Xero: one time entry with its minutes if it is approved, otherwise none. May be sent at any time."""

    bill_id: UUID


class QueueBills(Message, queue="bills"):
    """Queue approved bills that can be synced to Xero now. A message queues one chunk of bills: those after the bill `after`.

    - `connected`: Xero was connected.
    - `mapped`: something was mapped, of the customer `customer_id` or of any customer.
    - `access`: Xero gives access again. These are bills that have failed because it gave none.
    """

    because: Literal["connected", "mapped", "access"]
    customer_id: UUID | None = None
    after: UUID | None = None


class CheckAccess(Message, queue="xero", timeout_seconds=30):
    """Ask Xero whether Stint still has access to the connected organisation, after a call was refused. The handler enqueues the
    next check while it has none."""


class CheckInvoiced(Message, queue="xero", timeout_seconds=20):
    """Read a page of a project's time entries in Xero, to find those that are invoiced, changed by hand, or too many.

    The handler enqueues the message for the next page, or for the next check. Of a large project, the last days are read first
    (`recent`), then the rest (`older`).
    """

    project_id: str | None = None
    page: int = 1
    part: Literal["all", "recent", "older"] = "all"
    started_at: Instant | None = None  # when the first page of the project was asked for
