"""Single sentences about wrong values, without a server."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from litestar import Litestar, get
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from pydantic import BaseModel, ValidationError

from api.http.queries import _Parameter, _parameters, _problems
from schemas import wording
from schemas.email_addresses import Email

API = Path(__file__).parents[2] / "api"
CHECKS = {"user_in_path", "user_filter", "customer_filter", "_own"}
LIMIT = FieldDefinition.from_annotation(Annotated[int, QueryParameter(name="limit", ge=1, le=1000)], name="limit")
VERSION = FieldDefinition.from_annotation(Annotated[int | None, QueryParameter(name="version", ge=1)], name="version")


class Mail(BaseModel):
    """A body with an address."""

    email: Email


@pytest.mark.parametrize("value", ["1e2", "5.0", "1_000", "0x10", "5 ", " 5", "٥", "５", "--5", "+", "1,000", "5.", "1E2"])
@pytest.mark.parametrize("field", [LIMIT, VERSION], ids=lambda field: field.name)
def test_a_whole_number_is_written_with_digits(field: FieldDefinition, value: str) -> None:
    [found] = _problems({field.name: [value]}, {field.name: _Parameter.of(field)})
    assert found.path == field.name and found.message.startswith(f"{field.name} must be a whole number ")


@pytest.mark.parametrize("value", ["5", "+5", "-5", "007", "1000"])
def test_digits_are_left_to_the_bounds(value: str) -> None:
    assert list(_problems({"limit": [value]}, {"limit": _Parameter.of(LIMIT)})) == []


def test_a_name_without_characters_is_shown_as_that() -> None:
    assert wording.unknown("field", "", ["name"]) == 'There is no field "" here. The only field is name.'
    assert wording.unknown("query parameter", "", []) == 'There is no query parameter "" here: there are none.'


def test_a_repeated_parameter_is_named() -> None:
    [found] = _problems({"limit": ["1", "2"]}, {"limit": _Parameter.of(LIMIT)})
    assert wording.sentence([found]) == "limit was sent more than once; send one value."


def test_the_parameters_of_a_route_are_read_once() -> None:
    @get("/")
    async def numbers(limit: Annotated[int, QueryParameter(name="limit", ge=1)] = 1) -> None: ...

    [route] = [
        route for route in Litestar([numbers], openapi_config=None, logging_config=None).routes if isinstance(route, HTTPRoute)
    ]
    handler = next(handler for handler in route.route_handlers if "GET" in handler.http_methods)
    found = _parameters(handler)
    assert found["limit"].is_whole_number
    assert _parameters(handler) is found  # to make their schemas again would double the CPU time of a list


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("jo", "it has no @"),
        ("@acme.example", "something is needed before and after the @"),
        ("jo@", "something is needed before and after the @"),
        ("a@[1.2.3]", "what follows the @ is not a domain that mail can be sent to"),
        ("a@[IPv6:1]", "what follows the @ is not a domain that mail can be sent to"),
        ("a@xn--zz", "what follows the @ is not a domain that mail can be sent to"),
        ("a@b..example", "what follows the @ is not a domain that mail can be sent to"),
        ("a@-b.example", "what follows the @ is not a domain that mail can be sent to"),
        ("a b@acme.example", "what precedes the @ is not valid, or the whole address is too long"),
        ("a@b@acme.example", "what precedes the @ is not valid, or the whole address is too long"),
        ("jö@acme.example", "what precedes the @ may have only ASCII characters: not every mail server accepts them"),
        (f"{'a' * 250}@acme.example", "what precedes the @ is not valid, or the whole address is too long"),
    ],
)
def test_the_reason_of_a_wrong_address_is_in_stints_words(address: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Mail.model_validate({"email": address})
    [found] = wording.problems(Mail, refused.value)
    assert found.message == f"email must be an e-mail address, such as jo@acme.example: {reason}."


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("opId", "an operation"),
        ("mapping_id", "a channel mapping"),
        ("job_id", "a recompute job"),
        ("letter_id", "a dead letter"),
        ("bill_id", "a time bill"),
        ("billId", "a time bill"),
        ("entry_id", "a time entry"),
        ("owner", "a user"),
        ("taskId", "a task"),
    ],
)
def test_an_id_is_called_by_the_noun_of_its_row(name: str, noun: str) -> None:
    assert wording.must_be(name, {"type": "string", "format": "uuid"}).startswith(f"{name} must be the id of {noun}, such as ")


def test_parameters_are_checked_before_a_connection_is_taken() -> None:
    """Else a malformed id is answered with 503 while Postgres is away."""
    trees = {path.relative_to(API): ast.parse(path.read_text()) for path in API.rglob("*.py")}
    assert [f"{path}:{line}" for path, tree in trees.items() for line in _late_checks(tree)] == []


def _late_checks(tree: ast.AST) -> Iterator[int]:
    for block in (node for node in ast.walk(tree) if isinstance(node, ast.AsyncWith)):
        if any("database." in ast.unparse(item.context_expr) for item in block.items):
            called: list[Any] = [node for statement in block.body for node in ast.walk(statement) if isinstance(node, ast.Call)]
            yield from (call.lineno for call in called if ast.unparse(call.func) in CHECKS)
