"""What the product does after the demo's hours were written: messages for Xero and Slack, the receipts of stops, timers."""

import random
from datetime import date
from uuid import UUID

from ops.demo.firm import Firm, Project, new_id
from ops.errors import CommandError
from ops.sandbox.xero.store import FIRST_TENANT_ID, Store
from schemas.messages import SyncBill
from schemas.outbox import outbox
from schemas.postgres.connection import Connection

CHUNK = 5_000  # messages in one statement


async def find_projects(conn: Connection) -> list[Project]:
    """The projects of the sandbox for Xero that this Stint is connected to; none if it is not connected. Locks the connection.

    Raises CommandError if it is connected to the real Xero, where the demo's bills would become time entries.
    """
    # FOR KEY SHARE: a request that connects Xero waits, and then finds the bills of the demo
    tenant_id, tenant_name = await conn.one("SELECT tenant_id, tenant_name FROM xero_connection FOR KEY SHARE")
    if tenant_id is None:
        return []
    if tenant_id != FIRST_TENANT_ID:
        raise CommandError(
            f"This Stint is connected to {tenant_name} in Xero, and the demo's approved bills would be sent there: start"
            " another installation with `./stint up --sandbox --state DIR --port N`, then `./stint demo --state DIR`."
        )
    sandbox = Store()  # the ids of a new sandbox are always the same
    return [
        Project(
            project_id,
            [task_id for task_id, task in sandbox.tasks.items() if task["projectId"] == project_id and takes_time(task)],
        )
        for project_id in sandbox.projects
    ]


def takes_time(task: dict[str, object]) -> bool:
    return task["chargeType"] in ("TIME", "NON_CHARGEABLE")


async def enqueue_syncs(conn: Connection) -> None:
    """Enqueues the sync of each bill that is queued for Xero, in the order in which they were approved."""
    queued: list[tuple[UUID, UUID]] = await conn.all(
        "SELECT approved_by, id FROM time_bills WHERE xero_status = 'queued' ORDER BY approved_at, id"
    )
    for admin_id in dict.fromkeys(approved_by for approved_by, _ in queued):
        syncs = [SyncBill(bill_id=bill_id) for approved_by, bill_id in queued if approved_by == admin_id]
        for first in range(0, len(syncs), CHUNK):
            await outbox.enqueue_many(conn, syncs[first : first + CHUNK], created_by=admin_id)


async def write_stops(conn: Connection) -> None:
    """Writes the receipt of each user's last stop of each task. Its message was done long ago."""
    await conn.execute(
        """
        INSERT INTO stops (user_id, task_id, entry_id, message_id, start_time, end_time)
        SELECT DISTINCT ON (user_id, task_id) user_id, task_id, id, gen_random_uuid(), start_time, end_time
        FROM time_entries ORDER BY user_id, task_id, end_time DESC
        """
    )


async def start_timers(conn: Connection, firm: Firm, day: date, rng: random.Random) -> None:
    """Starts a timer for three consultants."""
    for consultant in firm.consultants[:3]:
        task_id = rng.choice(rng.choice(firm.areas_of(consultant)).current(day))
        await conn.execute(
            """
            INSERT INTO timers (user_id, id, task_id, start_time)
            VALUES (%s, %s, %s, date_trunc('second', now() - make_interval(secs => %s)))
            """,
            (consultant.id, new_id(rng), task_id, rng.randint(240, 3_000)),
        )
        await conn.execute("DELETE FROM stops WHERE user_id = %s AND task_id = %s", (consultant.id, task_id))
