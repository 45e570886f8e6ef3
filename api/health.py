"""Health, metrics, and public keys. These routes need no token."""

import hmac
from typing import Any

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST

from api import pool_metrics
from api.dependencies import ApiRequest
from api.http.limits.clients import COUNT_CLIENT
from api.http.problems import BadRequest
from api.http.queries import ANY_QUERY
from api.http.requests import is_behind_a_proxy, is_local
from api.processes.metrics import exposition
from schemas.base import Row
from schemas.errors import NotFound
from schemas.identity import signing_keys as keys

USER_POOL = "Tokens are signed by the user pool, not here; its keys are at AUTH_JWKS_URL."
NOT_LOCAL = "Metrics need METRICS_TOKEN: Authorization: Bearer METRICS_TOKEN. Without it, they are for this machine only."
PUBLIC = {"exclude_from_auth": True}
# load balancers and monitors add parameters of their own against caches; a probe must not fail because of them
PROBE = PUBLIC | {ANY_QUERY: True}
KEYS = PUBLIC | {COUNT_CLIENT: True, "also_answers": {404: USER_POOL, 429: ""}}


class Health(Row):
    """`ok`, or `unavailable` with the problems."""

    status: str
    problems: tuple[str, ...] = ()


class KeySet(Row):
    """A JSON Web Key Set (RFC 7517): the public keys for tokens of the local identity provider."""

    keys: list[dict[str, Any]]


@get("/health/live", summary="Is the process alive", opt=PROBE)
async def live() -> Health:
    """200 while the process can answer."""
    return Health(status="ok")


@get(
    "/health/ready",
    summary="Can it serve",
    opt=PROBE,
    responses={503: ResponseSpec(Health, description="What is wrong", generate_examples=False)},
)
async def ready(request: ApiRequest) -> Response[Health]:
    """200 if Postgres answers and has all migrations; otherwise 503 with the problems. RabbitMQ is not checked, because no
    request needs it. Checks start half a second apart at least; requests in between get the result of the last one."""
    problems = await request.readiness.problems()
    health = Health(status="unavailable" if problems else "ok", problems=problems)
    return Response(health, status_code=503 if problems else 200, headers={"Retry-After": "1"} if problems else {})


@get("/.well-known/jwks.json", summary="Public keys", opt=KEYS)
async def jwks(request: ApiRequest) -> Response[KeySet]:
    """The public keys of the local identity provider; 404 with an external one, which serves its own keys."""
    if request.settings.uses_external_identity:
        raise NotFound(USER_POOL)
    async with request.database.connection() as conn:
        await keys.ensure_key(conn, request.settings.secret_key.get_secret_value())
    return Response(
        KeySet(keys=await request.identity_provider.public_keys()), headers={"Cache-Control": "public, max-age=300"}
    )


@get("/metrics", summary="Prometheus metrics", opt=PUBLIC | {"also_answers": {401: NOT_LOCAL}}, media_type="text/plain")
async def metrics(request: ApiRequest) -> Response[bytes]:
    """Metrics in Prometheus's text format.

    Of all API processes behind this port: requests and connections. Of the whole installation: messages by queue and state, how
    long the oldest one has been due, handlers, dead letters, replays, and processes that are alive. The values of the
    installation are a few seconds old at most.

    Send METRICS_TOKEN as a bearer token. Clients on the same machine need no token while TRUSTED_PROXIES is empty and
    PUBLIC_URL names this machine."""
    if not _may_read_metrics(request):
        raise BadRequest(401, NOT_LOCAL)
    lines = [*await request.outbox_metrics.lines(), *await request.finding_counts.lines()]
    pool_metrics.record(request.database)
    body = exposition() + ("\n".join(lines) + "\n").encode()
    return Response(body, media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"))  # the framework adds it


def _may_read_metrics(request: ApiRequest) -> bool:
    token = request.settings.metrics_token
    sent = request.headers.getall("authorization", [])
    if token is not None and len(sent) == 1:
        scheme, _, text = sent[0].partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(text.strip().encode(), token.get_secret_value().encode()):
            return True
    return is_local(request) and not is_behind_a_proxy(request.settings)
