"""An installation whose workers run the probes (probe.py), with helpers for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from tests.outbox import probe
from tests.support.installation import Installation, eventually

EMPTY = """
    DELETE FROM messages;
    DELETE FROM replays;
    DELETE FROM replay_totals;
    DELETE FROM failure_groups;
    DELETE FROM unrecognized_messages;
    DELETE FROM unrecognized_groups;
    DELETE FROM probe;
    DELETE FROM probe_calls
"""


class Probes:
    """An installation with probes: instructs them, enqueues their messages, and reads what they did."""

    def __init__(self, stint: Installation, conn: psycopg.Connection[Any]) -> None:
        self.stint, self.conn = stint, conn

    def instruct(self, key: str, instruction: str, times: int = 1) -> None:
        self.conn.execute("INSERT INTO probe_instructions VALUES (%s, %s, %s)", (key, instruction, times))

    def enqueue(self, *messages: Any) -> list[UUID]:
        return probe.enqueue(self.conn, *messages)

    def state(self, message_id: UUID) -> str:
        return str(self.value("SELECT state FROM messages WHERE id = %s", message_id))

    def value(self, query: str, *parameters: Any) -> Any:
        row = self.conn.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]

    def wait_for(self, message_id: UUID, state: str, *, seconds: float = 20) -> None:
        eventually(lambda: self.state(message_id) == state, seconds=seconds, why=f"{state}; {self.stint.log('work')[-1500:]}")

    def effects(self, key: str) -> int:
        return int(self.value("SELECT count(*) FROM probe WHERE key = %s", key))

    def calls(self, key: str) -> list[bool]:
        return [
            row[0] for row in self.conn.execute("SELECT outcome_unknown FROM probe_calls WHERE key = %s ORDER BY at", (key,))
        ]

    def attempts(self, message_id: UUID) -> list[tuple[int, str]]:
        return self.conn.execute(
            "SELECT n, error_class FROM message_attempts WHERE message_id = %s ORDER BY n", (message_id,)
        ).fetchall()

    def empty(self) -> None:
        """Finishes what a test has left, and deletes it. RabbitMQ then has no reference to a row that does not exist."""
        self.conn.execute("DELETE FROM probe_instructions")  # from here on every probe succeeds
        self.conn.execute("UPDATE replays SET state = 'cancelled', ended_at = now() WHERE state = 'running'")

        def is_finished() -> bool:
            self.conn.execute("UPDATE messages SET available_at = now() WHERE state = 'ready' AND available_at > now()")
            return bool(self.value("SELECT count(*) = 0 FROM messages WHERE state IN ('ready', 'sent', 'calling')"))

        eventually(is_finished, seconds=40, why="every message of the test is done or dead")
        self.conn.execute(EMPTY)

    def restart_worker(self) -> None:
        self.restart("work")

    def restart(self, name: str) -> None:
        """Starts the part if it has ended, as a supervisor does."""
        if not self.stint.is_running(name):
            self.stint.processes.pop(name, None)
            self.stint.start(name)


@contextmanager
def running_probes(stint: Installation) -> Iterator[Probes]:
    """Starts a relay and a worker that runs the probes."""
    stint.environment["STINT_TEST_MODULE"] = "tests.outbox.probe"
    with stint.sql() as conn:
        conn.execute(probe.TABLES.encode())
        stint.start("relay", "work")
        yield Probes(stint, conn)
