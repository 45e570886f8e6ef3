"""Searches in Slack: the options of selects, and the words of SQL for the tasks that a command names.

All words that were typed have to be in the name, in any order; they are compared like all names (schemas/names.py). In a
channel that is mapped to a customer, the functions find only what belongs to `only_customer`.

The options are answers to Slack as JSON, which Postgres makes: a hundred models, or a hundred rows, would cost the API more
than everything else in the request. A test compares them with the options of the SDK.
"""

from typing import Any
from uuid import UUID

from schemas.names import patterns
from schemas.postgres.connection import Connection, one_json
from schemas.slack.views import MAX_OPTION_LENGTH

SUGGESTION_LIMIT = 100  # Slack's limit
RECENT_ROWS = 300  # a person's latest entries and tasks, which tell for which customers they work
IS_OWN = "(t.assignee_id = %(user)s OR t.assignee_id IS NULL AND t.created_by = %(user)s)"
IS_OPEN = "t.status IN ('open', 'in_progress') AND t.deleted_at IS NULL"
_FITS = "(%(patterns)s::text[] = '{{}}' OR name_key({}) LIKE ALL (%(patterns)s::text[]))"
NO_OPTIONS = b'{"options": []}'
_OPTIONS = f"""
    SELECT json_build_object('options', coalesce(json_agg(json_build_object(
        'text', json_build_object('type', 'plain_text', 'emoji', false, 'text', CASE
            WHEN length(name) <= {MAX_OPTION_LENGTH} THEN name ELSE left(name, {MAX_OPTION_LENGTH} - 1) || '…' END),
        'value', id) ORDER BY place), '[]'))::text
    FROM ({{}}) found
"""


async def suggest_tasks(conn: Connection, typed: str, *, user_id: UUID, only_customer: UUID | None) -> bytes:
    """The user's open tasks with the typed words in title and customer, on which a timer can start, as options in JSON."""
    return await _options(
        conn,
        f"""
        SELECT t.id, row_number() OVER (ORDER BY t.created_at DESC, t.id DESC) AS place,
               left(t.title, {MAX_OPTION_LENGTH} - 3 - least(length(c.name), 30)) || ' · ' || left(c.name, 30) AS name
        FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE {IS_OWN} AND {IS_OPEN} AND c.active AND t.customer_id = coalesce(%(customer)s, t.customer_id)
            AND {_FITS.format("t.title || ' ' || c.name")}
        ORDER BY place LIMIT {SUGGESTION_LIMIT}
        """,
        {"user": user_id, "customer": only_customer, "patterns": patterns(typed)},
    )


async def suggest_customers(conn: Connection, typed: str, *, user_id: UUID, only_customer: UUID | None) -> bytes:
    """The active customers with the typed words in their name. Those for whom the user has worked or got a task come first, the
    latest before the others. As options in JSON."""
    return await _options(
        conn,
        f"""
        WITH uses AS (
            (SELECT customer_id, end_time AS at FROM time_entries WHERE user_id = %(user)s AND deleted_at IS NULL
             ORDER BY start_time DESC, id DESC LIMIT {RECENT_ROWS})
            UNION ALL
            (SELECT customer_id, created_at FROM tasks
             WHERE created_by = %(user)s AND assignee_id IS NULL AND deleted_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT {RECENT_ROWS})
            UNION ALL
            (SELECT customer_id, created_at FROM tasks WHERE assignee_id = %(user)s AND deleted_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT {RECENT_ROWS})
            UNION ALL
            SELECT t.customer_id, r.start_time FROM timers r JOIN tasks t ON t.id = r.task_id WHERE r.user_id = %(user)s
        ), used AS (SELECT customer_id, max(at) AS at FROM uses GROUP BY customer_id)
        SELECT c.id, c.name, row_number() OVER (ORDER BY used.at DESC NULLS LAST, name_key(c.name), c.id) AS place
        FROM customers c LEFT JOIN used ON used.customer_id = c.id
        WHERE c.deleted_at IS NULL AND c.active AND c.id = coalesce(%(customer)s, c.id) AND {_FITS.format("c.name")}
        ORDER BY place LIMIT {SUGGESTION_LIMIT}
        """,
        {"user": user_id, "customer": only_customer, "patterns": patterns(typed)},
    )


async def suggest_pillars(conn: Connection, typed: str, *, customer_id: UUID) -> bytes:
    """The customer's active pillars with the typed words in their name, as options in JSON."""
    return await _options(
        conn,
        f"""
        SELECT id, name, row_number() OVER (ORDER BY name_key(name), id) AS place FROM pillars
        WHERE customer_id = %(customer)s AND deleted_at IS NULL AND active AND {_FITS.format("name")}
        ORDER BY place LIMIT {SUGGESTION_LIMIT}
        """,
        {"customer": customer_id, "patterns": patterns(typed)},
    )


async def _options(conn: Connection, rows: str, parameters: dict[str, Any]) -> bytes:
    return await one_json(conn, _OPTIONS.format(rows), parameters) or NO_OPTIONS
