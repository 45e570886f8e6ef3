"""Workers and relays say every few seconds that they are alive, and add up what their handlers did."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from schemas.base import Row
from schemas.database import Connection

EVERY_SECONDS = 5.0
ALIVE_SECONDS = 16.0  # three beats
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


@dataclass
class Totals:
    """What the handlers of one actor did since the last beat."""

    handled: int = 0
    failed: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))

    def add(self, seconds: float, *, well: bool) -> None:
        """Counts one attempt."""
        self.handled += well
        self.failed += not well
        self.seconds += seconds
        for index, bound in enumerate(BOUNDS):
            self.buckets[index] += seconds <= bound

    def add_all(self, others: "Totals") -> None:
        """Counts all that others have counted."""
        self.handled += others.handled
        self.failed += others.failed
        self.seconds += others.seconds
        self.buckets = [own + other for own, other in zip(self.buckets, others.buckets, strict=True)]


class Tally(defaultdict[str, Totals]):
    """Totals by actor, of one process. Threads add to it; losing a count to a race is no harm, losing a beat's is."""

    def __init__(self) -> None:
        super().__init__(Totals)

    def take(self) -> "Tally":
        """All that was counted, to be written down; counting begins anew."""
        taken = Tally()
        taken.update({actor: self.pop(actor) for actor in list(self)})
        return taken

    def give_back(self, taken: "Tally") -> None:
        """What was taken, and could not be written down."""
        for actor, totals in taken.items():
            self[actor].add_all(totals)


class Process(Row):
    """A worker or relay, as seen last."""

    process: str
    kind: str
    queues: list[str]
    started_at: datetime
    seen_at: datetime
    alive: bool


async def beat(conn: Connection, *, process: str, kind: str, queues: list[str], started_at: datetime) -> None:
    """Says that this process is alive, and forgets those that have not been for a day."""
    await conn.execute(
        """
        INSERT INTO heartbeats AS h (process, kind, queues, started_at, seen_at) VALUES (%s, %s, %s, %s, clock_timestamp())
        ON CONFLICT (process) DO UPDATE
        SET kind = excluded.kind, queues = excluded.queues, started_at = excluded.started_at, seen_at = excluded.seen_at
        """,
        (process, kind, queues, started_at),
    )
    await conn.execute("DELETE FROM heartbeats WHERE seen_at < clock_timestamp() - interval '1 day'")


async def add_up(conn: Connection, tally: Tally) -> None:
    """Adds what handlers did since the last beat."""
    for actor in sorted(tally):  # in one order: two workers must not wait for each other crosswise
        new = tally[actor]
        await conn.execute(
            """
            INSERT INTO handler_totals AS t (actor, handled, failed, seconds, buckets) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (actor) DO UPDATE
            SET handled = t.handled + excluded.handled, failed = t.failed + excluded.failed,
                seconds = t.seconds + excluded.seconds,
                buckets = (SELECT array_agg(a + b ORDER BY n)
                           FROM unnest(t.buckets, excluded.buckets) WITH ORDINALITY AS pairs (a, b, n))
            """,
            (actor, new.handled, new.failed, new.seconds, new.buckets),
        )


async def processes(conn: Connection) -> list[Process]:
    """Everyone seen within a day, those that are alive first."""
    cursor = await conn.execute(
        """
        SELECT process, kind, queues, started_at, seen_at, seen_at > clock_timestamp() - make_interval(secs => %s) AS alive
        FROM heartbeats ORDER BY alive DESC, kind, queues, process
        """,
        (ALIVE_SECONDS,),
    )
    return [Process(**dict(zip(Process.model_fields, row, strict=True))) for row in await cursor.fetchall()]
