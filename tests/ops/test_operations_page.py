"""docs/operations.md is read at three in the morning: its commands are understood, its screens are what is really printed."""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from ops import cli, status
from ops.status import Standing
from schemas.heartbeats import Process
from schemas.messages import SendMail
from schemas.queues import Queue
from tests.actors import probe
from tests.installation import CHECKOUT, Installation, eventually
from tests.smtp import mail_server

PAGE = (CHECKOUT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)]


@dataclass(frozen=True)
class Screen:
    """A command, and what it prints; with `echo $?` behind it the exit code, too."""

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
    """What is typed behind `./stint`, without what the shell makes of the rest of the line."""
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
    """What is the same each time: without ids, ages, and how wide they make a column."""
    text = "\n".join(lines)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\b\d+[smhd] ago", "AGO", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_every_screen_on_the_page_is_what_the_command_prints(own: Installation) -> None:
    """In the story that the page tells: four mails died, since `MAIL_FROM` is no address and no mail server answers."""
    own.environment |= {"PUBLIC_URL": own.url, "MAIL_FROM": "Stint at example.com", "SMTP_URL": "smtp://127.0.0.1:1"}
    own.start().wait_until_ready()
    with own.sql() as conn:
        mails = [SendMail(to="jo@example.com", subject="Hello", paragraphs=("One",)) for _ in range(4)]
        probe.put(conn, *mails)
    eventually(lambda: own.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 4, why=own.log("work")[-1500:])
    eventually(lambda: own.value("SELECT count(*) FROM heartbeats") == 2)
    seen = screens()
    assert [screen.words[0] for screen in seen] == ["doctor", "status", "dead", "dead", "dead"]
    with mail_server() as server:
        for screen in seen:
            if "an address now" in screen.line:
                own.kill("work")
                own.environment |= {"MAIL_FROM": "stint@example.com", "SMTP_URL": server.url}
                own.start("work")
            result = own.command(*screen.words)
            printed = result.stdout.splitlines() + ([str(result.returncode)] if "echo $?" in screen.line else [])
            assert plain(printed) == plain(screen.shown), screen.line
            assert result.stderr == ""
        assert len(server.mails) == 4
    measured = set(re.findall(r"^# TYPE (stint_\w+)", httpx.get(f"{own.url}/metrics").text, re.MULTILINE))
    # Prometheus's client adds when each one began
    assert {name for name in measured if not name.endswith("_created")} == set(re.findall(r"\bstint_\w+", PAGE))


def test_whatever_the_doctor_finds_has_a_section() -> None:
    """By the words of its heading, which stand in the finding too."""
    servers = {"RabbitMQ": "does not answer", "API": "does not answer", "mail": "does not answer"}
    servers |= {"Xero": "is not connected", "Slack": "took our bot token back"}
    waits = [Queue(name="rockets", ready=1), Queue(name="timers", ready=1), Queue(name="bills", ready=1, oldest_due_seconds=99)]
    now = datetime.now(UTC)
    worker = Process(process="here:1", kind="work", queues=["bills"], started_at=now, seen_at=now, alive=True)
    found = [
        *status.examine(Standing(servers={"Postgres": "does not answer: OperationalError"})),
        *status.examine(Standing(servers={"Postgres": "lacks migrations"}, lacks_migrations=True)),
        *status.examine(
            Standing(servers={"Postgres": "ok"} | servers, queues=waits, processes=[worker], dead=1, groups=1, foreign=1)
        ),
    ]
    assert len(found) == 13
    headings = re.findall(r"^### (.*)$", PAGE.partition("## Alarms")[2], re.MULTILINE)
    sections = [words_in(part) for heading in headings for part in heading.split(" and ")]
    assert [finding.what for finding in found if not any(section <= words_in(finding.what) for section in sections)] == []


def words_in(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - {"a", "are", "is", "the"}
