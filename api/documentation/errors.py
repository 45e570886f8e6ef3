"""The errors that a route can give, each with the body that it really has: tests/api/test_documented_errors.py compares them
with responses.
"""

from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from pydantic import BaseModel, ValidationError

from api.auth.auth import (
    NO_ROLE,
    NOT_ADMIN,
    NOT_INTERNAL,
    NOT_USER_MANAGER,
    require_admin,
    require_internal,
    require_user_manager,
)
from api.auth.tokens import SEND_TOKEN
from api.documentation.operations import operation_id
from api.http.bodies import RAW_BODY
from api.http.limits.json_text import NOT_JSON
from api.http.parameters import handler_body, handler_parameters, is_query_parameter, public_name
from api.http.problems import DATABASE_AWAY, DETAILS, INTERNAL, TITLES, Problem, problem
from api.http.queries import ANY_QUERY
from api.http.requests import INVALID_URL, SEND_JSON, slow_body
from schemas import wording
from schemas.errors import FieldProblem
from schemas.rate_limits import rate_limited

REQUEST_ID = "6f1d2c3b4a5f4e6d8c7b9a0f1e2d3c4b"
# in a handler's `opt`: the statuses that it can give beyond those that follow from its signature, each with its `detail`
ALSO_ANSWERS = "also_answers"
GUARDS = {require_internal: NOT_INTERNAL, require_admin: NOT_ADMIN, require_user_manager: NOT_USER_MANAGER}
DEFAULTS: dict[int, str | dict[str, Any]] = {
    401: SEND_TOKEN,
    404: "There is no such row.",
    409: "The row has changed since you read it.",
    429: rate_limited(60).detail,
}
NOT_YOUR_CUSTOMER = "There is no such customer, or it is not yours to see."
SIGNED_IN = "jo@acme.example has already signed in, and needs no invitation."
ARCHIVED = "This task is archived; set its status to open to work on it again."
ENDED = "The replay has ended already: it is done."
# by operation id: what does not follow from the signature
OF_OPERATIONS: dict[str, dict[int, str | dict[str, Any]]] = {
    "listCustomerUsers": {404: NOT_YOUR_CUSTOMER},
    "removeCustomerUser": {404: NOT_YOUR_CUSTOMER},
    "createPillar": {404: "There is no such customer."},
    "changePillar": {404: "There is no such customer."},
    "deletePillar": {404: "There is no such customer."},
    "getActiveTimer": {404: "No timer is running."},
    "putActiveTimer": {404: "No consultant has this id; GET /api/tasks/internal-users lists them."},
    "discardActiveTimer": {404: "No timer is running."},
    "getDeadLetter": {404: "There is no such dead letter; GET /api/dead-letters, or ./stint dead list, lists them."},
    "getRecompute": {404: "There is no such job; jobs are deleted a month after they end."},
    "inviteCustomerUser": {
        404: NOT_YOUR_CUSTOMER,
        409: "This address is a user of this customer already; POST …/users/resend-invite sends the mail again.",
        429: "",
    },
    "resendInvitation": {
        404: NOT_YOUR_CUSTOMER,
        409: "jo@acme.example has already signed in, and needs no invitation.",
        429: "",
    },
    "receiveLead": {429: ""},
    "listenToEvents": {429: "You have 20 open streams of live events; close one first."},
    "startTimer": {409: ARCHIVED},
    "stopTimer": {409: "You have no timer running on this task; GET /api/active-timers/me shows your running timer."},
    "stopActiveTimer": {404: "No timer is running.", 409: "This timer was stopped already."},
    "cancelReplay": {409: ENDED},
    "editDeadLetter": {
        404: "There is no such message; an unrecognized message cannot be edited, because no actor handles it.",
        409: "The message is done; only a dead one can be edited.",
    },
}
NEVER_404 = {"clearFocus"}
WITHOUT_DATABASE = {"getLiveness", "getMetrics"}


def error_responses(handler: HTTPRouteHandler) -> dict[int, ResponseSpec]:
    """The documentation of the route's errors, by status."""
    details = _details(handler) | _also(handler)
    return {status: problem_response(status, details[status]) for status in sorted(details)}


def problem_response(status: int, detail: str | dict[str, Any]) -> ResponseSpec:
    """The documentation of an error, with its `detail` or its further fields as an example."""
    more = {"detail": detail} if isinstance(detail, str) else detail
    body = problem(status, more["detail"], request_id=REQUEST_ID) | more
    return ResponseSpec(
        Problem,
        description=TITLES[status],
        media_type="application/problem+json",
        generate_examples=False,
        examples=[Example(summary=TITLES[status], value=body)],
    )


def _details(handler: HTTPRouteHandler) -> dict[int, str | dict[str, Any]]:
    """What follows from the route's path, its signature and its guards."""
    found: dict[int, str | dict[str, Any]] = {400: INVALID_URL, 500: INTERNAL}
    model = handler_body(handler)
    if operation_id(handler) not in WITHOUT_DATABASE:
        found[503] = DATABASE_AWAY
    if not handler.opt.get("exclude_from_auth"):
        guards = [GUARDS[guard] for guard in handler.guards or () if guard in GUARDS]
        found |= {401: SEND_TOKEN, 403: guards[0] if guards else NO_ROLE}
    ids = _ids(handler)
    if ids and operation_id(handler) not in NEVER_404:
        # customers' users may send a read without a guard, and get the same answer for a row of another customer
        is_open_read = "GET" in handler.http_methods and not set(handler.guards or ()) & GUARDS.keys()
        found[404] = f"There is no such {_noun(ids[-1])}{', or you may not see it' if is_open_read else ''}."
    if not handler.opt.get(ANY_QUERY):
        found[422] = _wrong_body(model) if model is not None else _wrong_query(handler)
    if model is not None or handler.opt.get(RAW_BODY):
        found |= {400: f"{NOT_JSON} (line 1, column 2).", 408: slow_body(20), 413: DETAILS[413], 415: SEND_JSON}
    if (conflict := _conflict(handler, model)) is not None:
        found[409] = conflict
    return found


def _also(handler: HTTPRouteHandler) -> dict[int, str | dict[str, Any]]:
    also = handler.opt.get(ALSO_ANSWERS, {})
    found = dict(also) if isinstance(also, dict) else dict.fromkeys(also, "")
    found |= OF_OPERATIONS.get(operation_id(handler), {})
    return {status: detail or DEFAULTS[status] for status, detail in found.items()}


def _conflict(handler: HTTPRouteHandler, model: type[BaseModel] | None) -> str | dict[str, Any] | None:
    """A change with a stale version, or a create with an id that another row has."""
    ids = _ids(handler)
    names = {public_name(field) for field in handler_parameters(handler)} | set(model.model_fields if model else ())
    if "version" in names and ids:
        noun = _noun(ids[-1])
        current = {"id": wording.ID, "version": 4}
        return {"detail": f"The {noun} has changed since you read it.", "current": current}
    if "id" in names:
        noun = handler.fn.__name__.partition("_")[2].replace("_", " ")
        return f"Another {noun} has this id; choose a new one."
    return None


def _wrong_body(model: type[BaseModel]) -> dict[str, Any]:
    for body in ({}, {"nonsense": 1}):
        try:
            model.model_validate(body)
        except ValidationError as error:
            return _invalid([(fault.path, fault.message) for fault in wording.problems(model, error)])
    return _invalid([("", wording.object_needed(wording.schema_of(model)))])


def _wrong_query(handler: HTTPRouteHandler) -> dict[str, Any]:
    known = [public_name(field) for field in handler_parameters(handler) if is_query_parameter(field)]
    return _invalid([("nonsense", wording.unknown("query parameter", "nonsense", known))])


def _invalid(errors: list[tuple[str, str]]) -> dict[str, Any]:
    problems = [FieldProblem(path=path, message=message) for path, message in errors]
    return {
        "detail": wording.sentence(problems),
        "errors": [{"path": fault.path, "message": fault.message} for fault in problems],
    }


def _noun(parameter: str) -> str:
    return wording.NOUNS.get(parameter, parameter.removesuffix("_id").replace("_", " "))


def _ids(handler: HTTPRouteHandler) -> list[str]:
    """The names of the parameters in the path."""
    parts = "".join(handler.paths).split("/")
    return [part[1:].partition(":")[0] for part in parts if part.startswith("{")]
