"""What a message is about: the people, tasks, customers, time entries and time bills that its body names, with names.

SQL may read the tables of any package.
"""

from datetime import date
from typing import Any, Literal
from uuid import UUID

from schemas.base import Row
from schemas.postgres.connection import Connection

MOST = 20  # rows of each kind
Kind = Literal["person", "task", "customer", "time entry", "time bill"]
# the fields of bodies that have an id, or a list of ids
FIELDS: dict[str, Kind] = {
    "user_id": "person",
    "rejected_by": "person",
    "task_id": "task",
    "customer_id": "customer",
    "entry_id": "time entry",
    "bill_id": "time bill",
    "bill_ids": "time bill",
}
EMAIL_FIELDS = ("to", "email")
_PERSON = "coalesce(nullif(u.name, ''), u.email)"


class Subject(Row):
    """A row that a message names. `name`: of a person, task or customer; of an entry and a bill its task or pillar. `person`,
    `customer`, `day` and `seconds`: of an entry or a bill; of a task its customer."""

    kind: Kind
    id: UUID
    name: str
    person: str | None = None
    customer: str | None = None
    day: date | None = None
    seconds: int | None = None


async def find_subjects(conn: Connection, body: Any) -> list[Subject]:
    """The rows that the body of a message names and that exist, in the order of Kind."""
    if not isinstance(body, dict):
        return []
    ids: dict[str, list[UUID]] = {"person": [], "task": [], "customer": [], "time entry": [], "time bill": []}
    for field, kind in FIELDS.items():
        value = body.get(field)
        ids[kind] += [found for item in (value if isinstance(value, list) else [value]) if (found := _uuid(item)) is not None]
    emails = [email for field in EMAIL_FIELDS if isinstance(email := body.get(field), str)]
    return await conn.all(
        f"""
        (SELECT 'person' AS kind, u.id, {_PERSON} AS name, NULL AS person, c.name AS customer, NULL::date AS day,
                NULL::integer AS seconds
         FROM users u LEFT JOIN customers c ON c.id = u.customer_id
         WHERE u.id = ANY(%(person)s) OR email_key(u.email) = ANY(SELECT email_key(e) FROM unnest(%(emails)s::text[]) e)
         ORDER BY u.id LIMIT {MOST})
        UNION ALL
        (SELECT 'task', t.id, t.title, NULL, c.name, NULL, NULL
         FROM tasks t JOIN customers c ON c.id = t.customer_id WHERE t.id = ANY(%(task)s) ORDER BY t.id LIMIT {MOST})
        UNION ALL
        (SELECT 'customer', c.id, c.name, NULL, NULL, NULL, NULL FROM customers c WHERE c.id = ANY(%(customer)s)
         ORDER BY c.id LIMIT {MOST})
        UNION ALL
        (SELECT 'time entry', e.id, t.title, {_PERSON}, c.name, e.date, e.duration
         FROM time_entries e JOIN tasks t ON t.id = e.task_id JOIN customers c ON c.id = e.customer_id
         JOIN users u ON u.id = e.user_id
         WHERE e.id = ANY(%(entry)s) AND e.deleted_at IS NULL ORDER BY e.id LIMIT {MOST})
        UNION ALL
        (SELECT 'time bill', b.id, p.name, {_PERSON}, c.name, b.date, b.minutes * 60
         FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
         JOIN users u ON u.id = b.user_id WHERE b.id = ANY(%(bill)s) ORDER BY b.date, b.id LIMIT {MOST})
        """,
        {
            "person": ids["person"], "task": ids["task"], "customer": ids["customer"], "entry": ids["time entry"],
            "bill": ids["time bill"], "emails": emails,
        },
        row=Subject,
    )  # fmt: skip


async def person_name(conn: Connection, user_id: UUID | None) -> str | None:
    """The name of a user, or the address of one without a name; None for nobody."""
    return None if user_id is None else await conn.value(f"SELECT {_PERSON} FROM users u WHERE u.id = %s", (user_id,))


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) and len(value) == 36 else None
    except ValueError:
        return None
