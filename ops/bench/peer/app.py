"""`python -m uvicorn ops.bench.peer.app:app`: the peer that `./stint bench` compares Stint with.

It is what an engineer writes in a day over Stint's own tables: FastAPI, a pool of psycopg's, plain SQL. Each request verifies
its token and reads its user's row. A stop makes the entry and the bill's sum in its own transaction: there is no message, no
queue and no worker. It checks what any such product checks: the task exists and is not archived, its customer is active, and a
user has one timer at most. It sends the same fields as Stint, and writes uvicorn's access log.

It needs FastAPI, of the group `dev`, a database that Stint has migrated in DATABASE_URL, and otherwise Stint's settings.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import jwt
import psycopg
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from ops.bench.peer.models import Billing, Me, StartTimer, Stop, Timer, User
from schemas.settings import settings, split_list

Connection = AsyncConnection[tuple[Any, ...]]
_TIMER = "id, user_id, task_id, start_time, notes, updated_at, version"

config = settings()
pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
    config.database_url, kwargs={"autocommit": True}, min_size=4, max_size=16, open=False
)
keys: dict[str, jwt.PyJWK] = {}  # by kid; read once, since it is no part of a request


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await pool.open(wait=True)
    async with pool.connection() as conn:
        for kid, jwk in await (await conn.execute("SELECT kid, public_jwk FROM signing_keys")).fetchall():
            keys[kid] = jwt.PyJWK(jwk)
    yield
    await pool.close()


app = FastAPI(lifespan=lifespan)


async def current_user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> User:
    """The token's user, whose row is read with each request, so that a removed user is refused."""
    try:
        key = keys[jwt.get_unverified_header(credentials.credentials)["kid"]]
        claims = jwt.decode(
            credentials.credentials,
            key,
            algorithms=["RS256"],
            issuer=config.auth_issuer,
            audience=sorted(split_list(config.auth_client_ids)),
        )
    except (jwt.InvalidTokenError, KeyError):
        raise HTTPException(401, "The token is not valid, or has expired.") from None
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            "SELECT id, email, name, role, customer_id FROM users WHERE id = %s AND revoked_at IS NULL", (claims["sub"],)
        )
        user = await cursor.fetchone()
    if user is None:
        raise HTTPException(401, "This user has no access.")
    return user


async def internal_user(user: Annotated[User, Depends(current_user)]) -> User:
    if not user.is_internal:
        raise HTTPException(403, "Only the firm's own people may do this.")
    return user


Internal = Annotated[User, Depends(internal_user)]


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/me")
async def me(user: Annotated[User, Depends(current_user)]) -> Me:
    permissions = ["read"]
    if user.is_internal:
        permissions.append("log_time")
    if user.role == "internal_admin":
        permissions.append("approve")
    return Me(**user.model_dump(), permissions=permissions)


@app.post("/api/tasks/{task_id}/start", status_code=201)
async def start(task_id: UUID, user: Internal, response: Response, data: StartTimer | None = None) -> Timer:
    """Starts the user's timer on the task, and stops one that runs on another task."""
    async with pool.connection() as conn, conn.transaction(), conn.cursor(row_factory=class_row(Timer)) as cursor:
        task = await (
            await conn.execute(
                "SELECT t.status, c.active FROM tasks t JOIN customers c ON c.id = t.customer_id"
                " WHERE t.id = %s AND t.deleted_at IS NULL",
                (task_id,),
            )
        ).fetchone()
        if task is None:
            raise HTTPException(404, "There is no such task.")
        if task[0] == "archived" or not task[1]:
            raise HTTPException(409, "This task takes no new hours.")
        await cursor.execute(f"SELECT {_TIMER} FROM timers WHERE user_id = %s", (user.id,))
        running = await cursor.fetchone()
        if running is not None and running.task_id == task_id:
            response.status_code = 200
            return running
        stopped = await _stop(conn, user.id, running.task_id) if running is not None else None
        await cursor.execute(
            "INSERT INTO timers (user_id, id, task_id, notes, start_time)"
            f" VALUES (%s, %s, %s, %s, date_trunc('second', now(), 'UTC')) RETURNING {_TIMER}",
            (user.id, uuid4(), task_id, data.notes if data else ""),
        )
        timer = await cursor.fetchone()
    assert timer is not None
    return timer.model_copy(update={"stopped": stopped})


@app.post("/api/tasks/{task_id}/stop")
async def stop(task_id: UUID, user: Internal) -> Stop:
    """Stops the user's timer on the task; its entry and bill are committed with it."""
    async with pool.connection() as conn, conn.transaction():
        stopped = await _stop(conn, user.id, task_id)
    if stopped is None:
        raise HTTPException(409, "You have no timer running on this task.")
    return stopped


@app.exception_handler(psycopg.errors.UniqueViolation)
async def conflict(*_: Any) -> JSONResponse:
    """Two requests of one user at once: the primary key of `timers` lets one through."""
    return JSONResponse({"detail": "Another request has changed this at the same time."}, 409)


async def _stop(conn: Connection, user_id: UUID, task_id: UUID) -> Stop | None:
    async with conn.cursor(row_factory=class_row(Stop)) as cursor:
        await cursor.execute(
            """
            DELETE FROM timers WHERE user_id = %s AND task_id = %s
            RETURNING id AS entry_id, task_id, start_time, notes,
                greatest(date_trunc('second', now(), 'UTC'), start_time) AS end_time
            """,
            (user_id, task_id),
        )
        stopped = await cursor.fetchone()
    if stopped is not None:
        await _bill(conn, user_id, stopped)
    return stopped


async def _bill(conn: Connection, user_id: UUID, stopped: Stop) -> None:
    """The entry, on the open bill of its user, customer, pillar and day, and the bill's sum."""
    async with conn.cursor(row_factory=class_row(Billing)) as cursor:
        await cursor.execute(
            """
            SELECT c.id AS customer_id, t.pillar_id, c.rounding_increment, c.rounding_mode,
                (%s AT TIME ZONE %s)::date AS day
            FROM tasks t JOIN customers c ON c.id = t.customer_id WHERE t.id = %s
            """,
            (stopped.start_time, config.stint_timezone, stopped.task_id),
        )
        billing = await cursor.fetchone()
    assert billing is not None
    bill = await (
        await conn.execute(
            """
            SELECT id FROM time_bills WHERE user_id = %s AND customer_id = %s AND pillar_id = %s AND date = %s
                AND status <> 'approved' AND deleted_at IS NULL
            FOR UPDATE
            """,
            (user_id, billing.customer_id, billing.pillar_id, billing.day),
        )
    ).fetchone()
    if bill is None:
        bill = await (
            await conn.execute(
                """
                INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
                VALUES (%s, %s, %s, %s, %s, %s) RETURNING id
                """,
                (
                    user_id, billing.customer_id, billing.pillar_id, billing.day, billing.rounding_increment,
                    billing.rounding_mode,
                ),
            )
        ).fetchone()  # fmt: skip
    assert bill is not None
    await conn.execute(
        """
        INSERT INTO time_entries
            (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes, bill_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            stopped.entry_id, stopped.task_id, user_id, billing.customer_id, billing.pillar_id, stopped.start_time,
            stopped.end_time, billing.day, stopped.notes, bill[0],
        ),
    )  # fmt: skip
    await conn.execute(
        """
        UPDATE time_bills b SET seconds = s.seconds, status = 'pending', rejection_note = NULL, version = version + 1
        FROM (SELECT sum(duration) AS seconds FROM time_entries WHERE bill_id = %s AND deleted_at IS NULL) s
        WHERE b.id = %s AND (b.seconds <> s.seconds OR b.status = 'rejected')
        """,
        (bill[0], bill[0]),
    )
