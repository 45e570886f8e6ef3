"""Errors as answers: RFC 9457 problem details. One table maps what the domain refuses to a status; nothing else of an
exception ever reaches a client."""

import logging
import traceback
from typing import Annotated, Any
from uuid import UUID

import msgspec
import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from psycopg_pool import PoolTimeout, TooManyRequests
from pydantic import Field

from schemas.base import Row
from schemas.database import UNREACHABLE, is_unreachable
from schemas.errors import Conflict, FieldProblem, Forbidden, Invalid, NotFound, StintError, TooMany, Unavailable, in_our_words
from schemas.references import References

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
MAX_ERRORS = 50
STATUS: dict[type[StintError], int] = {
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    Invalid: 422,
    TooMany: 429,
    Unavailable: 503,
}


class Problem(Row):
    """Every error's body (RFC 9457, application/problem+json). Bad input adds `errors`, a conflict what it is about."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] | None = None
    current: Annotated[dict[str, Any] | None, Field(description="the row as it is now")] = None
    overlaps: Annotated[list[UUID] | None, Field(description="the time entries in the way")] = None
    time_bill_id: Annotated[UUID | None, Field(description="the approved bill that locks the entry")] = None
    pillar_id: Annotated[UUID | None, Field(description="the pillar that has the name")] = None
    references: Annotated[References | None, Field(description="what keeps it from being deleted")] = None


class BadRequest(Exception):
    """The request can't be read; carries the status that says why (400, 401, 408, 413, 415)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def problem(status: int, detail: str, *, request_id: str, **more: Any) -> dict[str, Any]:
    """The body of an error answer."""
    title = TITLES.get(status, "Error")
    return {
        "type": f"urn:stint:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "requestId": request_id,
        **more,
    }


def _answer(
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


def _refused(request: Request[Any, Any, Any], error: StintError) -> Response[bytes]:
    more: dict[str, Any] = dict(error.facts) if isinstance(error, Conflict) else {}
    if isinstance(error, Invalid):
        more["errors"] = [{"path": fault.path, "message": fault.message} for fault in error.errors]
    retry_after = error.seconds if isinstance(error, TooMany | Unavailable) else 1
    return _answer(request, STATUS[type(error)], error.detail, retry_after=retry_after, **more)


def _bad_request(request: Request[Any, Any, Any], error: BadRequest) -> Response[bytes]:
    # who was too slow may not hold the connection either
    return _answer(request, error.status, error.detail, headers={"Connection": "close"} if error.status == 408 else None)


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """What the framework found wrong with body, query or path, each by its path."""
    faults = error.extra if isinstance(error.extra, list) else []
    # the body is as small as a request may be, and must not come back as an answer many times its size
    found = [fault for fault in faults if isinstance(fault, dict)][:MAX_ERRORS]
    errors = [{"path": _path(request, fault), "message": _message(fault)} for fault in found]
    detail = "; ".join(f"{fault['path']}: {fault['message']}" if fault["path"] else fault["message"] for fault in errors[:5])
    return _answer(request, 422, detail or "The request has a value that can't be used.", errors=errors)


def _path(request: Request[Any, Any, Any], fault: dict[str, Any]) -> str:
    """The name that the client knows: a field's alias, or a query parameter's; the framework tells the handler's own."""
    path = str(fault.get("key") or "")
    parameter = request.route_handler.parsed_fn_signature.parameters.get(path)
    known_as = getattr(parameter.kwarg_definition, "name", None) if parameter is not None else None
    text = str(known_as or path)
    return "" if text == "data" else text.removeprefix("data.")


def _message(fault: dict[str, Any]) -> str:
    text = str(fault.get("message") or "can't be used")
    if text == "'data'" or "valid dictionary or instance of" in text:
        return "Send a JSON object."
    return in_our_words(text)


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    details = {
        404: "There is nothing at this path; /docs lists what there is.",
        405: "This path does not take this method; /docs lists what it takes.",
        413: "The body is larger than this route takes; 256 KiB is the most that any does.",
    }
    status = error.status_code
    detail = details.get(status) or TITLES.get(status, "The request can't be answered.")
    return _answer(request, status, detail, headers={"Allow": _allowed(error)} if status == 405 else None)


def _allowed(error: HTTPException) -> str:
    """The methods that the path takes: those of its routes, as the framework tells, and those that stand for all paths."""
    methods = set((error.headers or {}).get("allow", "").split(", ")) - {""}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods | {"OPTIONS"}))


def _postgres(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if is_unreachable(error):
        logger.warning("Postgres is busy or away: %s", type(error).__name__)
        if isinstance(error, PoolTimeout | TooManyRequests):
            return _answer(request, 503, "The database is busy or away; nothing was changed. Try again in a moment.")
        return _answer(
            request, 503, "The database went away in the middle of it; look whether the change was made before you repeat it."
        )
    if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected | psycopg.errors.QueryCanceled):
        logger.warning("busy: %s", type(error).__name__)
        return _answer(request, 503, "Somebody else is changing the same rows; nothing was changed. Try again in a moment.")
    if isinstance(error, psycopg.errors.DataError):
        logger.warning("a value slipped past validation: %s", type(error).__name__)
        return _answer(request, 422, "The request has a value that can't be stored.")
    return _internal(request, error)


def _internal(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    # where it happened, not what it said: an exception's text may hold anything that was in the request or the row
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("unexpected %s %s", type(error).__name__, getattr(error, "sqlstate", ""), extra={"traceback": where})
    return _answer(request, 500, "Something went wrong on our side; the log has it under this requestId.")


HANDLERS: ExceptionHandlersMap = {
    BadRequest: _bad_request,
    StintError: _refused,
    ValidationException: _invalid,
    HTTPException: _framework,
    TooManyRequests: _postgres,
    psycopg.Error: _postgres,
    **dict.fromkeys(UNREACHABLE, _postgres),
    Exception: _internal,
}
