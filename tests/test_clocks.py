"""Times that are stored, or compared with stored ones, are Postgres's: the clocks of hosts differ."""

import ast
import re

from ops.state import CHECKOUT

# the calls that read the clock of the host
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
# where that is right, and why
BY_THE_HOST = {
    "api/console/formats.py": "shows a day of this year without the year",
    "api/diagnosis/diagnosis.py": "compares the time in a token with the host's, because Postgres may be away",
    "schemas/mail/smtp.py": "the Date of a mail, which Stint does not store",
    "schemas/outbox/clocks.py": "compares the host's clock with Postgres's",
    "schemas/outbox/heartbeats.py": "compares the host's clock with Postgres's",
    "schemas/servers/certificates.py": "compares the end of a certificate, as the TLS library of the host does",
    "schemas/slack/client.py": "compares the time in a request of Slack's, as Slack's own verifier does",
    "actors/runtime/bench_baseline.py": "measures on one host",
}


def test_only_these_modules_read_the_clock_of_the_host() -> None:
    found = set()
    for folder in ("api", "actors", "schemas"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
                    found.add(str(path.relative_to(CHECKOUT)))
    assert found == set(BY_THE_HOST)


def test_times_of_messages_are_compared_with_a_time_that_is_the_same_for_the_whole_statement() -> None:
    """clock_timestamp() is another one for each row, so Postgres reads all rows instead of a part of an index: of `messages`,
    all that were done in a month."""
    volatile = re.compile(
        r"\b(?:done|died|available|sent)_at\s*[<>]=?\s*clock_timestamp|\blease_until\s*[<>]=?\s*clock_timestamp"
    )
    sources = [path for folder in ("api", "actors", "schemas") for path in (CHECKOUT / folder).rglob("*.py")]
    sources += (CHECKOUT / "schemas").rglob("*.sql")
    assert [str(path.relative_to(CHECKOUT)) for path in sources if volatile.search(path.read_text())] == []
