"""What Stint writes to people. Each function gives one mail to one recipient, to be put into the ledger."""

from uuid import UUID

from schemas.messages import Link, SendMail


def invitation(*, to: str, name: str, customer: str, inviter: str, sign_in_url: str) -> SendMail:
    """To somebody whom a customer's administrator, or the firm, lets in."""
    return SendMail(
        to=to,
        subject=f"{inviter} invites you to {customer} on Stint",
        paragraphs=(
            f"Hello {name},",
            f"{inviter} invites you to see what is being done for {customer}: its tasks, and the hours that were approved.",
            f"Sign in with this address, {to}: there is no password, a code comes by mail each time.",
        ),
        link=Link(text="Sign in", url=sign_in_url),
    )


def invitation_elsewhere(*, to: str, name: str, customer: str, inviter: str) -> SendMail:
    """To somebody who is invited by one customer and has an account already that is not of this customer."""
    return SendMail(
        to=to,
        subject=f"{inviter} invites you to {customer} on Stint",
        paragraphs=(
            f"Hello {name},",
            f"{inviter} invites you to {customer}, but this address, {to}, belongs to another account already, and one address "
            "has one account. That account stays as it is.",
            "If you want to see this customer, too, let them invite you under another address.",
        ),
    )


def code(*, to: str, code: str, minutes: int) -> SendMail:
    """The code that somebody asked for to sign in."""
    return SendMail(
        to=to,
        subject="Your code to sign in to Stint",
        paragraphs=(
            f"Your code is {code}",
            f"It works once, within {minutes} minutes. If you did not ask for it, leave it: nobody can sign in without it.",
        ),
    )


def lead(*, to: str, name: str, email: str, facts: dict[str, str]) -> SendMail:
    """To the firm: somebody filled in the contact form. Answering the mail answers them."""
    return SendMail(
        to=to,
        subject=f"New lead: {name}",
        paragraphs=(f"{name} <{email}> wrote through the contact form.", *(f"{key}: {value}" for key, value in facts.items())),
        reply_to=email,
    )


def pillar_inactivated(*, to: str, pillar: str, customer: str, by: str) -> SendMail:
    """To one of the firm's own people: no more work is put on this pillar."""
    return SendMail(
        to=to,
        subject=f"{customer}: {pillar} is inactive now",
        paragraphs=(
            f"{by} made the pillar {pillar} of {customer} inactive.",
            "No new tasks are put on it; those that are there stay, and go on.",
        ),
    )


def xero_needs_reconnecting(*, to: str) -> SendMail:
    """To an admin: Xero no longer takes what Stint was given."""
    return SendMail(
        to=to,
        subject="Xero has to be connected again",
        paragraphs=(
            "Xero no longer lets Stint in: somebody removed it there, or it was not used for 60 days.",
            "Approved bills wait meanwhile, and go to Xero by themselves once an admin has connected it again.",
        ),
    )


def dead_letters(*, to: str, actor: str, error: str, frame: str, fingerprint: str) -> SendMail:
    """To whoever is on call: letters die of something that was not seen before, or not for a day."""
    return SendMail(
        to=to,
        subject=f"Stint: {actor} fails for good",
        paragraphs=(
            f"A message of {actor} is a dead letter: it was tried as often as it may be, or no retry could help. Nothing is "
            "lost, and nothing more happens until somebody replays it. Others of its kind are not announced one by one.",
            f"The error: {error}",
            f"The place: {frame or 'none of our own code'}",
            f"What to do: look at it with ./stint dead list --group {fingerprint}, mend the cause, then run "
            f"./stint dead replay --group {fingerprint} --canary 1 --reason '...' --watch. docs/operations.md has more.",
        ),
    )


def foreign_letters(*, to: str, queue: str, reason: str, letter_id: UUID) -> SendMail:
    """To whoever is on call: something came through RabbitMQ that is no message of ours, of a kind that was not seen before, or
    not for a day. Nothing that a stranger wrote stands in it."""
    return SendMail(
        to=to,
        subject=f"Stint: foreign letters on {queue}",
        paragraphs=(
            f"Something came through RabbitMQ on {queue} that is no message of Stint's. It is kept as it came, and no work of "
            "Stint's waits for it. Others of its kind are not announced one by one.",
            f"Why it was not taken: {reason}",
            f"What to do: look at it with ./stint dead show {letter_id}, find out who publishes and stop them, then run "
            f"./stint dead discard {letter_id} --reason '...'. docs/operations.md has more.",
        ),
    )
