"""SIGTERM to all processes while calls hang and streams are open: they end in time for a container, and nothing is lost."""

import signal
import time

import psycopg
import pytest

from schemas.messages import SendMail
from tests.outbox import probe
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.silent import silent_server
from tests.support.smtp import mail_server
from tests.sync.streams import Stream, open_stream

GRACE_SECONDS = 15  # `stop_grace_period` in compose.yaml; then Docker kills
MAILS = 6  # more than the worker's threads
STREAMS, PEOPLE = 50, 10


@pytest.mark.slow
def test_a_stop_with_hanging_calls_and_open_streams_ends_in_time_and_loses_nothing(own: Installation) -> None:
    with silent_server() as silent:
        own.environment |= {"SMTP_URL": f"smtp://127.0.0.1:{silent.port}"}
        own.start("api", "relay", "work:mail").wait_until_ready()
        given = Given(own)
        people = [given.person() for _ in range(PEOPLE)]
        streams = [Stream(open_stream(own.url, person.token)) for person in people for _ in range(STREAMS // PEOPLE)]
        eventually(lambda: all(stream.events for stream in streams), why="all streams have begun")
        with psycopg.connect(own.database_url, autocommit=True) as conn:
            for number in range(MAILS):
                probe.enqueue(conn, SendMail(to="a@example.com", subject=f"mail {number}", paragraphs=("text",)))
        eventually(lambda: own.rows("SELECT 1 FROM messages WHERE state = 'calling'"), why="a call hangs")

        seconds = {name: _seconds_to_stop(own, name) for name in ("work:mail", "relay", "api")}
        print({name: round(value, 1) for name, value in seconds.items()})
        assert max(seconds.values()) < GRACE_SECONDS
        assert all(stream.ends_properly() for stream in streams)
        for stream in streams:
            stream.close()
        given.close()
    with mail_server() as caught:
        own.environment |= {"SMTP_URL": caught.url}
        own.start("relay", "work:mail")
        eventually(lambda: len(caught.mails) >= MAILS, seconds=120, why="each mail is sent")
        eventually(lambda: not own.rows("SELECT 1 FROM messages WHERE state <> 'done'"), why="nothing is left")
        assert sorted(str(mail.message["Subject"]) for mail in caught.mails) == [f"mail {number}" for number in range(MAILS)]


def _seconds_to_stop(own: Installation, name: str) -> float:
    process = own.processes[name]
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(GRACE_SECONDS + 15)
    own.processes.pop(name)
    assert code in (0, -signal.SIGTERM), f"{name} ended with {code}: {own.log(name)[-800:]}"
    return time.monotonic() - started
