"""What is wrong with the mail server."""

from schemas.diagnosis.finding import Finding

PROBE_SECONDS = 3.0
REFUSES, DECLINES = "refuses the login", "accepts no mails"


async def probe(url: str | None) -> str:
    """Connects to the mail server, and logs in if SMTP_URL has a user. Returns the state for `InstallationStatus.servers`."""
    if not url:
        return "not set"
    from schemas.mail.smtp import problem  # importing aiosmtplib takes a while

    found = await problem(url, seconds=PROBE_SECONDS)
    return "ok" if found is None else state_of(found)


def state_of(problem: str) -> str:
    """The state in words of `code: details`, as in the heartbeat of a worker."""
    code, _, details = problem.partition(": ")
    return f"{_STATES.get(code, 'does not answer')}: {details}"


_STATES = {"refused": REFUSES, "declined": DECLINES}


def of_mail(state: str) -> Finding:
    """The finding for a mail server whose `state` is not ok."""
    if state.startswith(REFUSES):
        do = "set the user and the password in SMTP_URL to those of the mail server and restart Stint"
    elif state.startswith(DECLINES):
        do = (
            "look why in the log of the mail server: it may be overloaded, its disk or a quota may be full, or it holds back "
            "senders that it does not know. Mails go by themselves once it accepts them"
        )
    else:
        do = "start the mail server, or fix SMTP_URL and restart Stint"
    return Finding(f"mail {state}.", "each mail is retried for about an hour, then it is a dead letter", do)
