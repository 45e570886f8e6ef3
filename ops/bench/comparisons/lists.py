"""`list`: one user's month of time entries over HTTP, against pgbench with the statement that the API sends for it."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor

from ops.bench.installation import Installation
from ops.bench.load import Server, request
from ops.bench.pgbench import Pgbench, script
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from schemas.hours.time_entries import EntryFilter, list_page
from schemas.identity.users import Role, User
from schemas.postgres.connection import connect
from schemas.postgres.listing import MAX_LIMIT, Page
from schemas.settings import settings

ROWS = 150  # entries of a typical month of one user


@dataclass(frozen=True)
class Month:
    """The month and user of the list, and the number of entries."""

    user_id: UUID
    email: str
    first: date
    last: date
    entries: int


@dataclass(frozen=True)
class Statement:
    """A statement as it was passed to psycopg."""

    text: str
    parameters: dict[str, Any]


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Measures the plain list, and the one with the names for the ids."""
    [month] = months(stage, 1)
    return [_compare(stage, plan, month, enrich=enrich) for enrich in (False, True)]


def _compare(stage: Stage, plan: Plan, month: Month, *, enrich: bool) -> Line:
    name = "list enriched" if enrich else "list"
    statements = asyncio.run(recorded(month, enrich=enrich))
    parameters = {key: value for one in statements for key, value in one.parameters.items()}
    pgbench = Pgbench(stage, name, script(one.text for one in statements), parameters)
    ours = Server(stage, stage.url, [[question(stage, month, enrich=enrich)]] * plan.clients, stage.processes())
    sides = {
        "Stint": lambda: ours.per_second(plan.seconds),
        "pgbench": lambda: pgbench.per_second(clients=plan.clients, seconds=plan.seconds),
    }
    figures = alternate(stage.say, name, plan, sides)
    return Line(
        name,
        ours.rates(f"GET /api/time-entries of one user's month, {month.entries} rows", figures["Stint"]),
        Side("pgbench, the same statement with the same parameters, prepared", "requests/s", figures["pgbench"]),
        Target(0.75 if enrich else 0.55, at_least=True),
        {"clients": plan.clients, "rows": month.entries, **ours.notes()},
    )


async def recorded(month: Month, *, enrich: bool) -> list[Statement]:
    """The statements that the API's own function sends, recorded by a cursor."""
    sent: list[Statement] = []

    class Recording(AsyncCursor[tuple[Any, ...]]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> "Recording":
            text = query.decode() if isinstance(query, bytes) else str(query)
            sent.append(Statement(text, dict(params or {})))
            return await super().execute(query, params, **options)

    chosen = EntryFilter(settings().stint_timezone, user_id=month.user_id, start_date=month.first, end_date=month.last)
    reader = User(id=month.user_id, email=month.email, name="", role=Role.internal, customer_id=None)
    async with await connect(settings()) as conn:
        conn.cursor_factory = Recording
        await list_page(conn, Page(MAX_LIMIT), chosen, user=reader, enrich=enrich)
    return sent


def months(installation: Installation, count: int) -> list[Month]:
    """Months of users with a number of entries near to ROWS, the nearest first, all of which fit in one page."""
    rows = installation.sql(
        """
        WITH month AS (
            SELECT user_id, date_trunc('month', date)::date AS first, count(*) AS entries
            FROM time_entries WHERE deleted_at IS NULL GROUP BY 1, 2 HAVING count(*) <= %s
            ORDER BY abs(count(*) - %s), 2, 1 LIMIT %s
        )
        SELECT u.id, u.email, m.first, (m.first + interval '1 month - 1 day')::date, m.entries
        FROM month m JOIN users u ON u.id = m.user_id
        """,
        (MAX_LIMIT, ROWS, count),
    )
    return [Month(*row) for row in rows]


def question(installation: Installation, month: Month, *, enrich: bool) -> str:
    """The request for that list."""
    query = (
        f"userId={month.user_id}&startDate={month.first}&endDate={month.last}&limit={MAX_LIMIT}&enrich={str(enrich).lower()}"
    )
    return request("GET", f"/api/time-entries?{query}", token=installation.token(month.email))


COMPARISON = Comparison(
    "list", "one user's month of time entries, against pgbench with the same statement", ("list", "list enriched"), measure
)
