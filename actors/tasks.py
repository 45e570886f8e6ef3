"""Handler of moved tasks."""

from actors.runtime.handlers import handles
from schemas.hours import entry_moves
from schemas.messages import MoveEntries
from schemas.outbox import outbox
from schemas.postgres.connection import Connection


@handles(MoveEntries)
async def move_entries(conn: Connection, message: MoveEntries) -> None:
    """Moves a chunk of the task's entries to its customer and pillar, and enqueues the same message while there are more."""
    if await entry_moves.move_chunk(conn, message.task_id):
        await outbox.enqueue(conn, message)
