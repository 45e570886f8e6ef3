"""Health, metrics, and the public keys: what needs no token."""

from typing import Any

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.dependencies import TheDatabase, TheIdentity, TheSettings
from schemas import keys, queues
from schemas.base import Row
from schemas.database import Database, is_unreachable
from schemas.errors import NotFound
from schemas.migrate import pending

PUBLIC = {"exclude_from_auth": True}


class Health(Row):
    """`ok`, or what is wrong and so what to look at."""

    status: str
    problems: tuple[str, ...] = ()


class KeySet(Row):
    """RFC 7517: the keys that tokens of the local identity provider are signed with."""

    keys: list[dict[str, Any]]


@get("/health/live", summary="Is the process alive", opt=PUBLIC)
async def live() -> Health:
    """200 as long as the process answers at all."""
    return Health(status="ok")


@get(
    "/health/ready",
    summary="Can it serve",
    opt=PUBLIC,
    responses={503: ResponseSpec(Health, description="What is wrong", generate_examples=False)},
)
async def ready(database: TheDatabase) -> Response[Health]:
    """200 when Postgres answers and has every migration; else 503 with what is wrong. RabbitMQ is no part of it: no request
    waits for it."""
    problems = []
    try:
        if await database.promptly(_lacks_migrations(database)):
            problems.append("The database lacks migrations; run ./stint migrate.")
    except Exception as error:
        if not is_unreachable(error):
            raise
        problems.append("Postgres can't be reached; check DATABASE_URL and the server.")
    health = Health(status="unavailable" if problems else "ok", problems=tuple(problems))
    return Response(health, status_code=503 if problems else 200, headers={"Retry-After": "1"} if problems else {})


async def _lacks_migrations(database: Database) -> bool:
    async with database.connection(patient=False) as conn:
        return await pending(conn)


@get("/.well-known/jwks.json", summary="Public keys", opt=PUBLIC | {"also_answers": (404,)})
async def jwks(database: TheDatabase, identity: TheIdentity, settings: TheSettings) -> Response[KeySet]:
    """The public keys of the local identity provider; 404 with another, whose keys are its own to serve."""
    if settings.people_are_outside:
        raise NotFound("Tokens are signed by the user pool, not here; its keys stand where AUTH_JWKS_URL says.")
    async with database.connection() as conn:
        await keys.ensure_key(conn, settings.secret_key.get_secret_value())
    return Response(KeySet(keys=await identity.public_keys()), headers={"Cache-Control": "public, max-age=300"})


async def _ledger(database: Database) -> list[str]:
    async with database.connection(patient=False) as conn:
        return await queues.metrics(conn)


@get("/metrics", summary="Prometheus metrics", opt=PUBLIC, media_type="text/plain")
async def metrics(database: TheDatabase) -> Response[bytes]:
    """Requests of this process, and the ledger as all processes see it: messages by queue and state, how long the oldest has
    been due, what handlers did, dead letters, replays, and who is alive."""
    try:
        lines = ["# TYPE stint_postgres_up gauge", "stint_postgres_up 1", *await database.promptly(_ledger(database))]
    except Exception as error:
        if not is_unreachable(error):
            raise
        lines = ["# TYPE stint_postgres_up gauge", "stint_postgres_up 0"]
    body = generate_latest() + ("\n".join(lines) + "\n").encode()
    return Response(body, media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"))  # which the framework adds
