"""What a message is about: the people, tasks, customers, time entries and time bills that its body names, with names.

SQL may read the tables of any package.
"""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import chain
from typing import Annotated, Any, Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from schemas.base import Row
from schemas.postgres.connection import Connection

MOST = 20  # rows of each field of a body
Kind = Literal["person", "task", "customer", "time entry", "time bill"]
KINDS: tuple[Kind, ...] = get_args(Kind)
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
    """A row that a message names."""

    kind: Kind
    id: UUID
    name: Annotated[str, Field(description="of a person, task or customer; of an entry its task, of a time bill its pillar")]
    person: Annotated[str | None, Field(description="who worked; null: not an entry or a time bill")] = None
    customer: str | None = None
    day: Annotated[date | None, Field(description="of an entry or a time bill; of a person the day that the body names")] = None
    seconds: int | None = None


async def find_subjects(conn: Connection, bodies: Sequence[Any], *, zone: str) -> list[list[Subject]]:
    """For each body of a message the rows that it names and that exist, in the order of Kind. One statement for all. `zone`:
    the firm's, for the day of a time."""
    named = [_named(body) for body in bodies]
    ids: dict[str, list[UUID]] = {kind: [] for kind in KINDS}
    for kind, row_id in chain.from_iterable(rows for rows, _ in named):
        ids[kind].append(row_id)
    found = await conn.all(
        f"""
        SELECT 'person', u.id, {_PERSON}, NULL, c.name, NULL::date, NULL::integer, u.given
        FROM (
            SELECT id, name, email, customer_id, NULL AS given FROM users WHERE id = ANY(%(person)s)
            UNION ALL
            SELECT id, name, email, customer_id, e.given
            FROM unnest(%(emails)s::text[]) AS e (given) JOIN users ON email_key(email) = email_key(e.given)
        ) u LEFT JOIN customers c ON c.id = u.customer_id
        UNION ALL
        SELECT 'task', t.id, t.title, NULL, c.name, NULL, NULL, NULL
        FROM tasks t JOIN customers c ON c.id = t.customer_id WHERE t.id = ANY(%(task)s)
        UNION ALL
        SELECT 'customer', c.id, c.name, NULL, NULL, NULL, NULL, NULL FROM customers c WHERE c.id = ANY(%(customer)s)
        UNION ALL
        SELECT 'time entry', e.id, t.title, {_PERSON}, c.name, e.date, e.duration, NULL
        FROM time_entries e JOIN tasks t ON t.id = e.task_id JOIN customers c ON c.id = e.customer_id
        JOIN users u ON u.id = e.user_id WHERE e.id = ANY(%(time entry)s) AND e.deleted_at IS NULL
        UNION ALL
        SELECT 'time bill', b.id, p.name, {_PERSON}, c.name, b.date, b.minutes * 60, NULL
        FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
        JOIN users u ON u.id = b.user_id WHERE b.id = ANY(%(time bill)s)
        """,
        {**ids, "emails": [email for _, emails in named for email in emails]},
    )
    rows, by_email = {}, {}
    for *columns, given in found:
        subject = Subject(**dict(zip(Subject.model_fields, columns, strict=True)))
        rows[subject.kind, subject.id] = subject
        if given is not None:
            by_email[given] = subject
    subjects = []
    for body, (names, emails) in zip(bodies, named, strict=True):
        of_ids = [rows.get(name) for name in names]
        of_emails = [by_email.get(email) for email in emails]
        subjects.append(_of_body(body, of_ids + of_emails, zone))
    return subjects


def _named(body: Any) -> tuple[list[tuple[Kind, UUID]], list[str]]:
    """The rows that the body names, at most MOST of a field, and the addresses in it."""
    if not isinstance(body, dict):
        return [], []
    rows = []
    for field, kind in FIELDS.items():
        value = body.get(field)
        items = value[:MOST] if isinstance(value, list) else [value]
        rows += [(kind, found) for item in items if (found := _uuid(item)) is not None]
    sent = [body.get(field) for field in EMAIL_FIELDS]
    return rows, [email for email in sent if isinstance(email, str) and "\0" not in email]


def _of_body(body: Any, found: Sequence[Subject | None], zone: str) -> list[Subject]:
    unique = {(subject.kind, subject.id): subject for subject in found if subject is not None}
    day = _day(body, zone) if unique else None
    with_day = [subject.model_copy(update={"day": day}) if subject.kind == "person" else subject for subject in unique.values()]
    return sorted(with_day, key=lambda subject: (KINDS.index(subject.kind), subject.day or date.min, subject.id))


def _day(body: dict[str, Any], zone: str) -> date | None:
    """The day of a message about a person's day, or the day in the firm's zone on which a stopped timer was started."""
    try:
        if isinstance(day := body.get("day"), str):
            return date.fromisoformat(day)
        start = body.get("start_time")
        if not isinstance(start, str):
            return None
        return datetime.fromisoformat(start).astimezone(ZoneInfo(zone)).date()
    except (ValueError, OverflowError):
        return None


async def person_name(conn: Connection, user_id: UUID | None) -> str | None:
    """The name of a user, or the address of one without a name; None for nobody."""
    return None if user_id is None else await conn.value(f"SELECT {_PERSON} FROM users u WHERE u.id = %s", (user_id,))


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) and len(value) == 36 else None
    except ValueError:
        return None
