"""The texts of all mails. Each function returns one mail to one recipient, for the caller to enqueue.

Names and texts come from users, customers and people without an account. A mail of the firm must not carry their links, and
mail programs make a link of any text that looks like one. So each template gets them without links (`without_links`).
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Any, ParamSpec
from uuid import UUID

from schemas.messages import Link, SendMail

P = ParamSpec("P")
# parameters that are Stint's own text, or an address that the mail goes to
OWN = {"to", "reply_to", "sign_in_url", "code", "actor", "frame", "fingerprint", "queue", "cure", "url"}
# between a word and what could be a top-level domain; also the dots that browsers read as one
_DOT = re.compile(r"(?<=[^\s.])[.\u3002\uff0e\uff61](?=[^\W\d_]{2}|xn--)")
_IPV4 = re.compile(r"\b(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\b")
_SCHEME = re.compile(r":(?=//)")
_JOINERS = "\u200c\u200d"


def without_links(text: str) -> str:
    """The text with nothing in it that a mail program makes a link of, and still readable: `evil[.]com`, `http[:]//evil[.]com`.
    Invisible characters are left out; those that join characters, as in emoji, stay in a text that has nothing of the kind."""
    joined = "".join(character for character in text if character in _JOINERS or unicodedata.category(character) != "Cf")
    visible = joined.translate(dict.fromkeys(map(ord, _JOINERS)))
    broken = _SCHEME.sub("[:]", _IPV4.sub(r"\1[.]\2[.]\3[.]\4", _DOT.sub("[.]", visible)))
    return joined if broken == visible else broken


def _template(write: Callable[P, SendMail]) -> Callable[P, SendMail]:
    """Marks a template: its texts arrive without links, except those of Stint itself (OWN)."""

    @functools.wraps(write)
    def wrapped(*args: P.args, **values: P.kwargs) -> SendMail:
        return write(*args, **{name: value if name in OWN else _plain(value) for name, value in values.items()})  # type: ignore[arg-type]

    return wrapped


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {without_links(key): _plain(item) for key, item in value.items()}
    return without_links(value) if isinstance(value, str) else value


@_template
def invitation(*, to: str, name: str, customer: str, inviter: str, sign_in_url: str) -> SendMail:
    """To a person who gets access to a customer's data."""
    return SendMail(
        to=to,
        subject=f"{inviter} invites you to {customer} on Stint",
        paragraphs=(
            f"Hello {name},",
            f"{inviter} invites you to follow the work for {customer} on Stint: you can see its tasks and approved hours.",
            f"To begin, sign in with this address, {to}. You need no password: we mail you a code each time you sign in.",
        ),
        link=Link(text="Sign in", url=sign_in_url),
    )


@_template
def invitation_to_other_account(*, to: str, name: str, customer: str, inviter: str) -> SendMail:
    """To a person who is invited by one customer, and whose address already has an account that is not of that customer."""
    return SendMail(
        to=to,
        subject=f"{inviter} invites you to {customer} on Stint",
        paragraphs=(
            f"Hello {name},",
            f"{inviter} invites you to {customer}. But this address, {to}, already belongs to another account on Stint, and an "
            "address can have only one account. Nothing has changed for your account.",
            f"If you want to see the work for {customer}, too, ask {inviter} to invite another address of yours.",
        ),
    )


@_template
def code(*, to: str, code: str, minutes: int) -> SendMail:
    """The code that its recipient requested in order to sign in."""
    return SendMail(
        to=to,
        subject="Your code to sign in to Stint",
        paragraphs=(
            f"Your code is {code}",
            f"Enter it where you sign in. It works once, within {minutes} minutes. If you did not ask for it, you can ignore "
            "this mail: nobody can sign in without the code.",
        ),
    )


@_template
def lead(*, to: str, name: str, email: str, reply_to: str, facts: dict[str, str]) -> SendMail:
    """To the firm: a new message from the contact form. A reply goes to its author."""
    return SendMail(
        to=to,
        subject=f"New lead: {name}",
        paragraphs=(
            f"{name} <{email}> has filled in the contact form. Reply to this mail to answer.",
            *(f"{key}: {value}" for key, value in facts.items()),
        ),
        reply_to=reply_to,
    )


@_template
def pillar_inactivated(*, to: str, pillar: str, customer: str, by: str) -> SendMail:
    """To one of the firm's own people: a pillar takes no new tasks any more."""
    return SendMail(
        to=to,
        subject=f"{customer}: {pillar} is inactive now",
        paragraphs=(
            f"{by} has made the pillar {pillar} of {customer} inactive.",
            "Create new tasks on another pillar. Existing tasks stay on this one, and you can continue to work on them.",
        ),
    )


@_template
def xero_access_lost(*, to: str, organisation: str, problem: str, cure: str, reconnect: bool, url: str) -> SendMail:
    """To an admin: Xero gives Stint no access to the organisation. `reconnect`: an admin has to connect it again."""
    return SendMail(
        to=to,
        subject=f"Xero has to be connected again: {organisation}" if reconnect else f"Xero gives no access to {organisation}",
        paragraphs=(
            f"{problem}.",
            f"What to do: {cure}",
            "Until then, approved bills wait; after that they go to Xero automatically. You get no further mail about this.",
        ),
        link=Link(text="Connect Xero again" if reconnect else "Xero in Stint", url=url),
    )


@_template
def slack_access_lost(*, to: str, problem: str, cure: str) -> SendMail:
    """To an admin: Slack refuses calls to the app. `problem` is a sentence without its period."""
    return SendMail(
        to=to,
        subject="Slack gives Stint no access",
        paragraphs=(
            f"Slack refuses calls to Stint: {problem}.",
            f"What to do: {cure}",
            "Until then, confirmations and reminders in Slack wait; after that they are posted automatically. You get no "
            "further mail about this.",
        ),
    )


@_template
def xero_differs(*, to: str, organisation: str, bill: str, error: str, url: str) -> SendMail:
    """To an admin: a time entry of an approved bill was changed or deleted in Xero by hand. `bill` says whose it is, for which
    customer and day."""
    return SendMail(
        to=to,
        subject=f"Bills differ from Xero: {organisation}",
        paragraphs=(
            f"In Xero ({organisation}) somebody has changed a time entry that Stint wrote: that of the bill of {bill}.",
            error,
            "Stint changes neither the bill nor the entry automatically. There may be more bills with the status differs: you "
            "get one mail a day about them at most.",
        ),
        link=Link(text="Xero in Stint", url=url),
    )


@_template
def xero_waits(*, to: str, organisation: str, bill: str, error: str, url: str) -> SendMail:
    """To an admin: an approved bill cannot go to Xero until a person acts. `bill` as in `xero_differs`."""
    return SendMail(
        to=to,
        subject=f"Bills wait for Xero: {organisation}",
        paragraphs=(
            f"The approved bill of {bill} cannot go to Xero ({organisation}) yet.",
            error,
            "It goes there automatically after that. There may be more such bills: you get one mail a day about them at most.",
        ),
        link=Link(text="Xero in Stint", url=url),
    )


@_template
def test_mail(*, to: str) -> SendMail:
    """To the admin who asks for it, to see whether mail arrives."""
    return SendMail(
        to=to,
        subject="A test mail of Stint",
        paragraphs=("You asked for this mail on the page Connections of Stint. Mail of Stint arrives at this address.",),
    )


@_template
def dead_letters(*, to: str, actor: str, error: str, frame: str, fingerprint: str, url: str) -> SendMail:
    """To the person on call: a kind of dead letter that is new, or did not occur for a day. `url`: its page in the console."""
    return SendMail(
        to=to,
        subject=f"Stint: {actor} fails permanently",
        paragraphs=(
            f"A message of {actor} is a dead letter: its retries are exhausted, or no retry can help. Nothing is lost, but "
            "Stint will not try it again until you replay it. You get no mail for further dead letters of this kind.",
            f"Error: {error}",
            f"Place in our code: {frame or 'none'}",
            f"What to do: look at it in the console, or with ./stint dead list --group {fingerprint}; fix the cause; then "
            f"replay it with a canary, there or with ./stint dead replay --group {fingerprint} --canary 1 --reason '...' "
            "--watch. See docs/operations.md.",
        ),
        link=Link(text="Look at the dead letters", url=url),
    )


@_template
def outage(*, to: str, queue: str, cure: str, is_over: bool) -> SendMail:
    """To the person on call: an outage has begun, or is over. `queue`: what is concerned, such as `worker for bills`; `cure`:
    what is wrong, and what to do."""
    if is_over:
        was = cure.partition(" What to do")[0]
        return SendMail(to=to, subject=f"Stint: {queue} is back", paragraphs=(f"This is over: {was}",))
    return SendMail(
        to=to,
        subject=f"Stint: {queue} is down",
        paragraphs=(cure, "You get one more mail when it is over. See docs/operations.md."),
    )


@_template
def unrecognized_messages(*, to: str, queue: str, reason: str, message_id: UUID, url: str) -> SendMail:
    """To the person on call: an unrecognized message of a kind that is new, or did not occur for a day. The mail contains no
    text from the message, because anybody may have written it. `url`: its page in the console."""
    return SendMail(
        to=to,
        subject=f"Stint: unrecognized messages on {queue}",
        paragraphs=(
            f"RabbitMQ delivered a message on {queue} that Stint does not recognize. Stint has stored it unchanged, and no "
            "work of Stint waits for it. You get no mail for further messages of this kind.",
            f"Why it was not accepted: {reason}",
            f"What to do: look at it in the console, or with ./stint dead show {message_id}, find out who publishes it and "
            f"stop that; then discard it there, or with ./stint dead discard {message_id} --reason '...'. See "
            "docs/operations.md.",
        ),
        link=Link(text="Look at the message", url=url),
    )
