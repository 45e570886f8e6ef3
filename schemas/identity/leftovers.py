"""What a user leaves behind whose access was removed: it stays until somebody takes care of it."""

from datetime import datetime
from uuid import UUID

from schemas.base import Row
from schemas.identity.users import CONSULTANT
from schemas.postgres.connection import Connection


class Leftovers(Row):
    """What is still connected with a user. `timer_*`: None when no timer runs."""

    timer_task: str | None
    timer_since: datetime | None
    open_bills: int
    unfinished_stops: int
    dead_stops: int
    open_tasks: int
    focus: str | None

    def sentences(self, user_id: UUID, email: str) -> list[str]:
        """One sentence for each kind, with what to do about it."""
        found = []
        if self.timer_task is not None and self.timer_since is not None:
            found.append(
                f'Their timer runs on "{self.timer_task}" since {self.timer_since:%Y-%m-%d %H:%M} UTC, and its bill cannot be '
                f"approved: ./stint user remove {email} --stop-timer stops it (--end-time T: when the work ended), or an admin "
                f"does: POST /api/active-timers/{user_id}/stop."
            )
        if self.unfinished_stops:
            found.append(f"Stopped timers that are not on a bill yet: {self.unfinished_stops}; workers do that.")
        if self.dead_stops:
            found.append(
                f"Stopped timers whose hours could not be recorded: {self.dead_stops}; ./stint dead list --actor stop_timer "
                "shows why, and a replay records them once that is cured."
            )
        if self.open_bills:
            found.append(
                f"Time bills that are not approved: {self.open_bills}; an admin decides: GET /api/time-bills?userId={user_id}."
            )
        if self.open_tasks:
            found.append(f"Tasks that are assigned to them: {self.open_tasks}; see GET /api/tasks?userId={user_id}.")
        if self.focus is not None:
            found.append(f'Their focus on "{self.focus}" ends within 5 minutes.')
        return found


async def find(conn: Connection, user_id: UUID) -> Leftovers:
    """What the user leaves behind."""
    return await conn.one(
        """
        SELECT t.title AS timer_task, r.start_time AS timer_since,
               (SELECT count(*) FROM time_bills WHERE user_id = u.id AND status <> 'approved' AND deleted_at IS NULL)
                   AS open_bills,
               (SELECT count(*) FROM stops s JOIN messages m ON m.id = s.message_id
                WHERE s.user_id = u.id AND m.state NOT IN ('done', 'dead', 'discarded')) AS unfinished_stops,
               (SELECT count(*) FROM stops s JOIN messages m ON m.id = s.message_id
                WHERE s.user_id = u.id AND m.state = 'dead') AS dead_stops,
               (SELECT count(*) FROM tasks
                WHERE assignee_id = u.id AND status IN ('open', 'in_progress') AND deleted_at IS NULL) AS open_tasks,
               (SELECT c.name FROM focus f JOIN customers c ON c.id = f.customer_id
                WHERE f.user_id = u.id AND f.expires_at > now()) AS focus
        FROM users u LEFT JOIN timers r ON r.user_id = u.id LEFT JOIN tasks t ON t.id = r.task_id WHERE u.id = %s
        """,
        (user_id,),
        row=Leftovers,
    )


async def timers_without_access(conn: Connection) -> list[str]:
    """The addresses of users whose timer runs although they may not stop it themselves any more: their access was revoked, or
    their role is no internal one."""
    return await conn.values(
        f"""
        SELECT coalesce(nullif(u.email, ''), u.id::text) FROM timers r JOIN users u ON u.id = r.user_id
        WHERE u.revoked_at IS NOT NULL OR ({CONSULTANT}) IS NOT TRUE ORDER BY r.start_time
        """
    )
