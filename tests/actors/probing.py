"""One installation whose workers run the probes (probe.py), and the words to ask it things in."""

from typing import Any
from uuid import UUID

import psycopg

from tests.actors import probe
from tests.installation import Installation, eventually


class Ledger:
    """The ledger of an installation with probes."""

    def __init__(self, stint: Installation, conn: psycopg.Connection[Any]) -> None:
        self.stint, self.conn = stint, conn

    def order(self, key: str, order: str, times: int = 1) -> None:
        self.conn.execute("INSERT INTO probe_orders VALUES (%s, %s, %s)", (key, order, times))

    def put(self, *messages: Any) -> list[UUID]:
        return probe.put(self.conn, *messages)

    def state(self, message_id: UUID) -> str:
        return str(self.one("SELECT state FROM messages WHERE id = %s", message_id))

    def one(self, query: str, *parameters: Any) -> Any:
        row = self.conn.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]

    def becomes(self, message_id: UUID, state: str, *, seconds: float = 20) -> None:
        eventually(lambda: self.state(message_id) == state, seconds=seconds, why=f"{state}; {self.stint.log('work')[-1500:]}")

    def effects(self, key: str) -> int:
        return int(self.one("SELECT count(*) FROM probe WHERE key = %s", key))

    def calls(self, key: str) -> list[bool]:
        return [row[0] for row in self.conn.execute("SELECT unsure FROM probe_calls WHERE key = %s ORDER BY at", (key,))]

    def attempts(self, message_id: UUID) -> list[tuple[int, str]]:
        return self.conn.execute(
            "SELECT n, error_class FROM message_attempts WHERE message_id = %s ORDER BY n", (message_id,)
        ).fetchall()

    def keep_worker_alive(self) -> None:
        """What a supervisor does."""
        if not self.stint.is_running("work"):
            self.stint.processes.pop("work", None)
            self.stint.start("work")
