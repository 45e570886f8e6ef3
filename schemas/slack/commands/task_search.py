"""Which task a command names: the one that has the typed words in its title and its customer's name.

In a channel that is mapped to a customer, only tasks of `only_customer` are found.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.names import MAX_TYPED, name_key, patterns
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.commands.search import IS_OPEN, IS_OWN
from schemas.slack.task_actions import task_url
from schemas.slack.typed import words
from schemas.slack.views import TaskSummary

MOST_FOUND = 10
MOST_WORDS = 12  # of a task and a note that follow each other, at most the first 12 words name the task
_NAME = "t.title || ' ' || c.name"
_TAKES_HOURS = f"{IS_OPEN} AND c.active AND t.customer_id = coalesce(%(customer)s, t.customer_id)"
# on which tasks the user worked and until when, by their latest 200 entries and their stops
RECENT_WORK = """
    (SELECT task_id, end_time AS at FROM time_entries WHERE user_id = %(user)s AND deleted_at IS NULL
     ORDER BY start_time DESC, id DESC LIMIT 200)
    UNION ALL
    SELECT task_id, end_time FROM stops WHERE user_id = %(user)s
"""
_SEPARATORS = {"-", "–", "—", ":", "|"}


@dataclass(frozen=True)
class Found:
    """At most MOST_FOUND tasks that fit, and whether there are more. `note`: the text after the words that name the task.
    `sure`: it is certain that these words are the task's, and the others are not."""

    tasks: list[TaskSummary]
    more: bool = False
    note: str = ""
    sure: bool = True

    @property
    def only(self) -> TaskSummary | None:
        """The one task that is certainly meant."""
        return self.tasks[0] if len(self.tasks) == 1 and self.sure else None


async def find(conn: Connection, typed: str, *, user_id: UUID, settings: Settings, only_customer: UUID | None) -> Found:
    """The open tasks with all of the typed words, on which hours can be recorded: the user's own, or if none fits, everybody's.
    If the text is the title of one, only this one."""
    typed = typed.strip(f"{words.QUOTES} ")
    rows = await conn.all(
        f"""
        SELECT t.id, t.title, c.name, coalesce({IS_OWN}, false), name_key(t.title) = name_key(%(typed)s)
        FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE {_TAKES_HOURS} AND name_key({_NAME}) LIKE ALL (%(patterns)s::text[])
        ORDER BY 4 DESC, 5 DESC, t.created_at DESC, t.id DESC LIMIT {MOST_FOUND + 1}
        """,
        {"user": user_id, "customer": only_customer, "typed": typed[:MAX_TYPED], "patterns": patterns(_keys(typed))},
    )
    own = [row for row in rows if row[3]] or rows
    return _found([row for row in own if row[4]] or own, settings)


async def find_with_note(
    conn: Connection, typed: str, *, user_id: UUID, settings: Settings, only_customer: UUID | None
) -> Found:
    """The tasks that the first words of the text name; the text after them is the note. A colon or a dash ends the name.
    Without one, the name has as many words as fit one of the user's own open tasks."""
    parts = typed.split(None, MOST_WORDS)[:MOST_WORDS]
    end = next((n for n, part in enumerate(parts) if part in _SEPARATORS or part.endswith(":")), None)
    if end is not None:
        name = " ".join(parts[: end + 1]).rstrip(" :|-–—")
        found = Found([])
        if name:
            found = await find(conn, name, user_id=user_id, settings=settings, only_customer=only_customer)
        return Found(found.tasks, found.more, _after(typed, end + 1), found.sure)
    rows = await conn.all(
        f"""
        SELECT t.id, t.title, c.name, fitting.words FROM tasks t JOIN customers c ON c.id = t.customer_id, LATERAL (
            SELECT coalesce(min(w.n) - 1, cardinality(%(patterns)s::text[]))::int AS words
            FROM unnest(%(patterns)s::text[]) WITH ORDINALITY w (pattern, n) WHERE name_key({_NAME}) NOT LIKE w.pattern
        ) fitting
        WHERE {IS_OWN} AND {_TAKES_HOURS} AND fitting.words > 0
        ORDER BY 4 DESC, t.created_at DESC, t.id DESC LIMIT {MOST_FOUND + 1}
        """,
        {"user": user_id, "customer": only_customer, "patterns": [_one_pattern(part) for part in parts]},
    )
    if not rows:
        found = await find(conn, typed, user_id=user_id, settings=settings, only_customer=only_customer)
        return found if found.tasks else Found([], note=typed)
    count: int = rows[0][3]
    best = [row for row in rows if row[3] == count]
    name = name_key(" ".join(parts[:count])[:MAX_TYPED])
    titled = [row for row in best if name_key(row[1]) == name]
    # one word of a longer text may be in a title by chance
    return _found(titled or best, settings, note=_after(typed, count), sure=bool(titled) or count > 1 or count == len(parts))


async def list_recent(
    conn: Connection, *, user_id: UUID, settings: Settings, only_customer: UUID | None, with_running: bool = False
) -> list[TaskSummary]:
    """The open tasks that the user worked on last, and then the newest of the user's own. The one whose timer runs is left out,
    or with `with_running` comes first."""
    rows = await conn.all(
        f"""
        WITH recent AS (
            {RECENT_WORK}
            UNION ALL
            SELECT task_id, 'infinity' FROM timers WHERE user_id = %(user)s
        ), worked AS (SELECT task_id, max(at) AS at FROM recent GROUP BY task_id)
        SELECT t.id, t.title, c.name
        FROM tasks t JOIN customers c ON c.id = t.customer_id LEFT JOIN worked w ON w.task_id = t.id
        WHERE (w.task_id IS NOT NULL OR {IS_OWN}) AND {_TAKES_HOURS}
            AND (%(with_running)s OR NOT EXISTS (SELECT FROM timers r WHERE r.user_id = %(user)s AND r.task_id = t.id))
        ORDER BY w.at DESC NULLS LAST, t.created_at DESC, t.id DESC LIMIT {MOST_FOUND}
        """,
        {"user": user_id, "customer": only_customer, "with_running": with_running},
    )
    return _found(rows, settings).tasks


def _keys(typed: str) -> str:
    """The words without the punctuation around them, which people type and titles do not have."""
    return " ".join(words.key(part) for part in typed[:MAX_TYPED].split())


def _one_pattern(word: str) -> str:
    return (patterns(words.key(word)) or ["%"])[0]


def _after(typed: str, count: int) -> str:
    """The text after its first words, without a dash or colon before it."""
    parts = typed.split(None, count)
    return parts[count].lstrip("-–—:| ") if len(parts) > count else ""


def _found(rows: list[Any], settings: Settings, *, note: str = "", sure: bool = True) -> Found:
    tasks = [TaskSummary(row[0], row[1], row[2], url=task_url(settings, row[0])) for row in rows[:MOST_FOUND]]
    return Found(tasks, len(rows) > MOST_FOUND, note, sure)
