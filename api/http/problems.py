"""Errors as responses: RFC 9457 problem details. One table maps the domain's errors to statuses. The text of other exceptions
never reaches a client.
"""

import logging
import traceback
from typing import Annotated, Any
from uuid import UUID

import msgspec
import psycopg
from litestar import Request, Response
from litestar._signature.types import ExtendedMsgSpecValidationError
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from psycopg_pool import PoolTimeout
from pydantic import Field

from api.http.parameters import body_model, parameter_schema, public_name, route_parameters
from schemas import wording
from schemas.base import Row
from schemas.customers.deletion import References
from schemas.errors import Conflict, FieldProblem, Forbidden, Invalid, NotFound, RateLimited, StintError, Unavailable
from schemas.postgres.connection import PoolBusy, is_unreachable
from schemas.postgres.migrate import UNDEFINED
from schemas.servers.postgres_refusals import refuses_writes

logger = logging.getLogger(__name__)

TITLES = {
    400: "Malformed request",
    401: "Not authorized",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Request too large",
    415: "Unsupported content type",
    422: "Invalid input",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Temporarily unavailable",
}
# of errors that Litestar raises
DETAILS = {
    400: "The request cannot be read; check its headers, its path and its query.",
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path does not take this method; /docs lists what it takes.",
    413: "The body is larger than this route accepts; only Slack's routes accept more than 256 KiB.",
}
DATABASE_AWAY = "The database cannot be reached. Nothing was changed; try again in a moment."
NOTHING_STORED = "The database accepts no changes at the moment. Nothing was changed; try again soon."
REFUSED_SECONDS = 5  # until a client asks again whether changes are accepted
LACKS_MIGRATIONS = (
    "The database is of another version than this process. Nothing was changed; ./stint migrate adds what it lacks."
)
INTERNAL = "An internal error; the log has it under this requestId."
STATUS: dict[type[StintError], int] = {
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    Invalid: 422,
    RateLimited: 429,
    Unavailable: 503,
}


class Problem(Row):
    """The body of every error (RFC 9457, application/problem+json). `errors` lists invalid input; a conflict adds its facts."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] | None = None
    current: Annotated[dict[str, Any] | None, Field(description="the row as it is now")] = None
    overlaps: Annotated[list[UUID] | None, Field(description="the time entries that overlap")] = None
    time_bill_id: Annotated[UUID | None, Field(description="the approved bill that locks the entry")] = None
    pillar_id: Annotated[UUID | None, Field(description="the pillar that has the name")] = None
    references: Annotated[References | None, Field(description="the rows that prevent the deletion")] = None


class BadRequest(Exception):
    """The request cannot be read. `status` is 400, 401, 408, 413 or 415."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def problem(status: int, detail: str, *, request_id: str, **more: Any) -> dict[str, Any]:
    """The body of an error response."""
    title = TITLES.get(status, "Error")
    return {
        "type": f"urn:stint:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "requestId": request_id,
        **more,
    }


def _problem_response(
    request: Request[Any, Any, Any],
    status: int,
    detail: str,
    *,
    retry_after: int = 1,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Response[bytes]:
    request_id = request.scope.get("state", {}).get("request_id", "")
    waits = {"Retry-After": str(retry_after)} if status in (429, 503) else {}
    headers = headers or ({"WWW-Authenticate": "Bearer"} if status == 401 else waits)
    return Response(
        msgspec.json.encode(problem(status, detail, request_id=request_id, **more)),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def _domain_error(request: Request[Any, Any, Any], error: StintError) -> Response[bytes]:
    more: dict[str, Any] = dict(error.facts) if isinstance(error, Conflict) else {}
    if isinstance(error, Invalid):
        more["errors"] = [{"path": fault.path, "message": fault.message} for fault in error.errors]
    retry_after = error.seconds if isinstance(error, RateLimited | Unavailable) else 1
    return _problem_response(request, STATUS[type(error)], error.detail, retry_after=retry_after, **more)


def _bad_request(request: Request[Any, Any, Any], error: BadRequest) -> Response[bytes]:
    # a client that was too slow must not keep the connection open
    return _problem_response(
        request, error.status, error.detail, headers={"Connection": "close"} if error.status == 408 else None
    )


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Litestar's validation errors in body, query or path, each with its path in the client's names and what is expected."""
    cause = error.__cause__
    if isinstance(cause, ExtendedMsgSpecValidationError):
        errors = wording.problems_in(body_model(request), cause.errors)
    else:
        errors = _invalid_parameters(request, error) or [_invalid_body(request)]
    found = [{"path": fault.path, "message": fault.message} for fault in errors]
    return _problem_response(request, 422, wording.sentence(errors), errors=found)


def _invalid_parameters(request: Request[Any, Any, Any], error: ValidationException) -> list[FieldProblem]:
    names = {str(fault.get("key")).partition(".")[0] for fault in error.extra or [] if isinstance(fault, dict)}
    fields = {field.name: field for field in route_parameters(request) if field.name in names and field.name != "data"}
    return [
        FieldProblem(path=public_name(field), message=wording.must_be(public_name(field), parameter_schema(field)))
        for field in fields.values()
    ]


def _invalid_body(request: Request[Any, Any, Any]) -> FieldProblem:
    return FieldProblem(path="", message=wording.object_needed(wording.schema_of(body_model(request))))


def _framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    detail = DETAILS.get(status) or TITLES.get(status, "The request cannot be answered.")
    return _problem_response(request, status, detail, headers={"Allow": _allowed(error)} if status == 405 else None)


def _allowed(error: HTTPException) -> str:
    """The methods that the path takes: Litestar's list for its routes, and those that every path takes."""
    methods = set((error.headers or {}).get("allow", "").split(", ")) - {""}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods | {"OPTIONS"}))


def _database_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if is_unreachable(error):
        logger.warning("Postgres is busy or away error=%s", type(error).__name__)
        if refuses_writes(error):
            return _problem_response(request, 503, NOTHING_STORED, retry_after=REFUSED_SECONDS)
        if isinstance(error, PoolBusy):
            return _problem_response(
                request,
                503,
                "Stint is busy: all its connections to the database are in use. Nothing was changed; try again soon.",
            )
        if isinstance(error, PoolTimeout):
            return _problem_response(request, 503, DATABASE_AWAY)
        return _problem_response(
            request, 503, "The connection to the database broke; check whether the change was made before you repeat it."
        )
    if isinstance(error, UNDEFINED):
        log_unexpected(error)
        return _problem_response(request, 503, LACKS_MIGRATIONS)
    if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected | psycopg.errors.QueryCanceled):
        logger.warning("rows are locked or the statement timed out error=%s", type(error).__name__)
        return _problem_response(
            request, 503, "Another request is changing the same rows; nothing was changed. Try again in a moment."
        )
    if isinstance(error, psycopg.errors.DataError):
        logger.warning("Postgres refused a value that validation had accepted error=%s", type(error).__name__)
        return _problem_response(request, 422, "The request has a value that cannot be stored.")
    return _internal_error(request, error)


def _internal_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log_unexpected(error)
    return _problem_response(request, 500, INTERNAL)


def log_unexpected(error: Exception) -> None:
    """Logs the traceback without the exception's text, which may contain secret values of the request or of a row."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    sqlstate = getattr(error, "sqlstate", "")
    logger.error("unexpected error=%s sqlstate=%s", type(error).__name__, sqlstate, extra={"traceback": frames})


HANDLERS: ExceptionHandlersMap = {
    BadRequest: _bad_request,
    StintError: _domain_error,
    ValidationException: _invalid,
    HTTPException: _framework_error,
    psycopg.Error: _database_error,
    Exception: _internal_error,
}
