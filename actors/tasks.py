"""What happens behind the queue to a task."""

from actors.deliveries import handles
from schemas import ledger
from schemas.database import Connection
from schemas.messages import MoveEntries
from schemas.moving import move_entries as move_some


@handles(MoveEntries)
async def move_entries(conn: Connection, message: MoveEntries) -> None:
    """Moves the task's open hours to where it is now, some at a time."""
    if await move_some(conn, message.task_id):
        await ledger.put(conn, message)
