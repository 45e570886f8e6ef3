"""docs/operations.md is true: its commands exist, and its screens are what the commands print."""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import httpx2
import psycopg
import pytest

from ops import cli
from schemas.diagnosis import mail, rabbitmq
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.postgres_findings import of_postgres
from schemas.diagnosis.postgres_health import Holder, PostgresHealth, Slot, Standby
from schemas.diagnosis.secrets import Unreadable
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import SendMail
from schemas.outbox.heartbeats import LateHandler, Process
from schemas.outbox.metrics import QueueDepth
from schemas.postgres.backups import LastBackup
from schemas.postgres.server.blockers import Blocker
from schemas.postgres.server.failures import explain
from tests.outbox import probe
from tests.support.installation import CHECKOUT, Installation, eventually
from tests.support.smtp import mail_server

PAGE = (CHECKOUT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)]


@dataclass(frozen=True)
class Screen:
    """A command and its output; with `echo $?` after it, also the exit code."""

    line: str
    shown: list[str]

    @property
    def words(self) -> list[str]:
        return words_of(self.line)


def screens() -> list[Screen]:
    texts = [text for kind, text in BLOCKS if kind == "console"]
    parts = [part.splitlines() for text in texts for part in re.split(r"^\$ ", text, flags=re.MULTILINE) if part]
    return [Screen(line, shown) for line, *shown in parts]


def words_of(line: str) -> list[str]:
    """The arguments of `./stint`, without redirections and other parts for the shell."""
    command = re.split(r"; echo|\s>\s|\s\|\s|\s#\s", line)[0]
    assert command.startswith("./stint ")
    return shlex.split(command)[1:]


def commands() -> set[str]:
    scripts = [line for kind, text in BLOCKS if kind != "console" for line in text.splitlines()]
    lines = [*scripts, *SPANS, *(screen.line for screen in screens())]
    return {line for line in lines if line.startswith("./stint ")}


@pytest.mark.parametrize("line", sorted(commands()))
def test_every_command_on_the_page_is_understood(line: str) -> None:
    parsed, rest = cli._parser().parse_known_args(words_of(line))
    assert not rest or parsed.passes_on


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


@pytest.mark.parametrize("span", sorted({span for span in SPANS if span.startswith("--")}))
def test_every_option_on_the_page_is_one_of_some_command(span: str) -> None:
    known = {option for parser in parsers(cli._parser()) for option in parser._option_string_actions}
    assert span.split()[0] in known


def plain(lines: list[str]) -> list[str]:
    """The lines without ids, ages and column widths, which differ each time."""
    text = "\n".join(lines)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\b\d+[smhd] ago", "AGO", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_every_screen_on_the_page_is_what_the_command_prints(own: Installation) -> None:
    """In the situation of the page: four mails are dead letters, because `MAIL_FROM` is not an address."""
    own.environment |= {"PUBLIC_URL": own.url, "MAIL_FROM": "Stint at example.com", "SMTP_URL": "smtp://127.0.0.1:1"}
    own.start().wait_until_ready()
    with own.sql() as conn:
        mails = [SendMail(to="jo@example.com", subject="Hello", paragraphs=("One",)) for _ in range(4)]
        probe.enqueue(conn, *mails)
    eventually(lambda: own.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 4, why=own.log("work")[-1500:])
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 3)
    seen = screens()
    assert [screen.words[0] for screen in seen] == ["doctor", "status", "dead", "dead", "dead"]
    with mail_server() as server:
        for screen in seen:
            if "an address now" in screen.line:
                own.kill("work")
                own.environment |= {"MAIL_FROM": "stint@example.com", "SMTP_URL": server.url}
                own.start("work")
            result = own.command(*screen.words)
            stdout = result.stdout.replace(own.url, "http://127.0.0.1:8000")  # the page has the default
            printed = stdout.splitlines() + ([str(result.returncode)] if "echo $?" in screen.line else [])
            assert plain(printed) == plain(screen.shown), screen.line
            assert result.stderr == ""
        assert len(server.mails) == 4
    measured = set(re.findall(r"^# TYPE (stint_\w+)", httpx2.get(f"{own.url}/metrics").text, re.MULTILINE))
    # Prometheus's client adds when each one began
    assert {name for name in measured if not name.endswith("_created")} == set(re.findall(r"\bstint_\w+", PAGE))


REFUSALS = (
    "connection refused",
    'FATAL:  password authentication failed for user "x"',
    'FATAL:  database "x" does not exist',
)
STATES = (
    "is read-only: it is a standby",
    "has a full disk: no space is left",
    "is behind a pooler that assigns connections",
    "is blocked: the process 7 (psql)",
)
UNWELL = PostgresHealth(
    connections=99,
    connections_most=100,
    transaction_ids_age=2_000_000_000,
    holders=[Holder("the prepared transaction x", 9_999.0, "ROLLBACK PREPARED 'x'")],
    blockers=[Blocker("the process 7 (psql, idle in transaction)", 99.0, 2, None, "SELECT pg_terminate_backend(7)")],
    slots=[Slot("gone", 2**30, too_much=True, of_standby=True)],
    standbys=[Standby("late", 2**30, 1.0)],
    synchronous_names="a",
    synchronous_missing=1,
    unknown_migrations=["9999_later"],
)


def test_whatever_the_doctor_finds_has_a_section() -> None:
    """All words of the section's heading are in the finding's text."""
    servers = {"RabbitMQ": "does not answer", "API": "does not answer", "mail": "does not answer"}
    servers |= {"Xero": "is not connected", "Slack": "refuses calls since 2026-03-02", "user pool": "was last read 300 s ago"}
    waits = [
        QueueDepth(name="rockets", ready=1),
        QueueDepth(name="timers", ready=1),
        QueueDepth(name="bills", ready=1, oldest_due_seconds=99),
    ]
    late = LateHandler(actor="sync_bill", message_id=UUID(int=1), seconds=99)
    now = datetime.now(UTC)
    worker = Process(
        process="here:1", kind="work", queues=["bills"], started_at=now, seen_at=now, alive=True, late_handlers=(late,)
    )
    frozen = worker.model_copy(update={"alive": False, "frozen": True})
    gone = worker.model_copy(update={"process": "there:1", "alive": False, "gone": True})
    hosts = {f"host of {server}": "unusable: b does not answer" for server in ("RabbitMQ", "Postgres")}
    relay = worker.model_copy(update={"kind": "relay", "queues": [], "problems": hosts})
    found = [
        *(
            diagnose(InstallationStatus(servers={"Postgres": refusal.state}))[0]
            for refusal in (explain(psycopg.OperationalError(text), "dbname=x") for text in REFUSALS)
        ),
        *(diagnose(InstallationStatus(servers={"Postgres": state}))[0] for state in STATES),
        *of_postgres(UNWELL),
        *diagnose(InstallationStatus(servers={"Postgres": "lacks migrations"}, lacks_migrations=True)),
        *diagnose(
            InstallationStatus(
                servers={"Postgres": "ok"} | servers,
                queues=waits,
                processes=[worker, frozen],
                dead=1,
                groups=1,
                unrecognized=1,
                wrong_clocks=["the host b (600 s ahead of Postgres)"],
                stray_entries=["e with 60 minutes in project p, marked as bill b"],
                timers_without_access=["jo@example.com"],
                unreadable_secrets=Unreadable(signing_key=True, organisation="The firm"),
                backup=LastBackup(max_age_days=2),
                overload="39 processes run or wait for 2 processors",
            )
        ),
        *diagnose(InstallationStatus(servers={"Postgres": "ok", "API": "is not ready: Busy"}, processes=[worker]))[:1],
        *(rabbitmq.of_rabbitmq(rabbitmq.state_of(f"{code}: words")) for code in rabbitmq.WORDS),
        *(mail.of_mail(mail.state_of(f"{code}: words")) for code in ("refused", "declined")),
        *diagnose(InstallationStatus(servers={"Postgres": "ok"}, processes=[worker, relay, gone]))[:3],
    ]
    assert len(found) == 48
    headings = re.findall(r"^### (.*)$", PAGE.partition("## Alerts")[2], re.MULTILINE)
    sections = [words_in(part) for heading in headings for part in heading.split(" and ")]
    assert [finding.what for finding in found if not any(section <= words_in(finding.what) for section in sections)] == []


def words_in(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - {"a", "are", "is", "the"}
