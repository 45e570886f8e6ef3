"""What an invalid value is answered: what is expected, with an example, and no word of Python or of a library."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from api.app import ROUTES
from schemas import wording
from tests.api.contract import Contract, fetch_document, operations
from tests.api.table import TABLE, UNKNOWN_ID
from tests.support.answers import EVERY_ROUTE, Json, filled, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation
from tests.support.sizes import sample

# words of Python, pydantic, msgspec, Litestar, psycopg and json
OF_LIBRARIES = re.compile(
    r"\b(str|int|float|bool|dict|NoneType|None|Decimal|datetime|tzinfo|Expected|pydantic|msgspec|psycopg|litestar|Struct|UUID)\b"
    r"|Input should|Field required|Extra inputs|Value error|Invalid \w+ (value|encoded)|RFC ?3339|instance of|valid dictionary"
    r"|Unable to|should have|should be|type=|literal|parsing|delimiter|Expecting|Traceback|object \||<class|`data`|'data'",
)
# an example, or a choice of all valid values
WITH_EXAMPLE = re.compile(r"such as \S|true or false|(must be|is needed:) (\w+, )*\w+ or \w+[.,:]|must be \w+(, or null)?[.:]")
# rows and other fields, and not the value itself, are what is wrong with these
OF_THE_DOMAIN = (
    "There is no ", "No consultant", "Send at least one", "Send either ", "Send exactly one of", "Send the reason",
    "Send userId or email", "Send endTime or duration", "The start is", "The bill is not rejected", "The entry would end",
    "An entry can be at most", "startTime, endTime and duration do not agree", "Send filter together with", "The list contains",
    "This task is archived", "This pillar is inactive", "endDate is before", "The customer has no such pillar", "More than ",
    "Send rejectionNote only", "There are more than", "This is not the syncTimestamp", "This is not a valid cursor",
    "This is not a cursor", "This cursor is not", "the body no longer fits", "The report has more than",
)  # fmt: skip
SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
JSON = {"Content-Type": "application/json"}
WRONG: list[object] = [
    None, 5, -1, 1.5, 1e300, 10**40, True, "", " ", "nonsense", "2026-02-30", "2026-02-30T09:00:00Z",
    "0001-01-01T00:00:00+14:00", "1772442000", f"{UNKNOWN_ID}0", "a" * 20_000, [], [None], ["x", 5], [[]], {},
    {"x": 1}, [{"x": 1}], "\u200b", "jo@", "@x",
]  # fmt: skip


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    given = Given(stint)
    yield given.admin()
    given.close()


@pytest.fixture(scope="module")
def document(stint: Installation) -> Json:
    return fetch_document(stint)


def assert_well_worded(answer: httpx2.Response, what: str) -> None:
    assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code < 400:
        return
    body = problem(answer, answer.status_code)
    texts = [body["detail"], *(text for error in body.get("errors", []) for text in (error["path"], error["message"]))]
    for text in texts:
        assert not OF_LIBRARIES.search(text), f"{what}: {text}"
    if answer.status_code == 422:
        for error in body["errors"]:
            message = error["message"]
            assert WITH_EXAMPLE.search(message) or message.startswith(OF_THE_DOMAIN), f"{what}: {message}"
            assert message[0].isupper() or message.startswith((error["path"].rpartition(".")[2], *OF_THE_DOMAIN)), message


def variants(contract: Contract, schema: Json, value: Any) -> Iterator[Any]:
    """The value with each wrong value in each place that the schema has, one at a time."""
    yield from WRONG
    schema = contract.resolve(schema)
    for option in schema.get("anyOf") or schema.get("oneOf") or []:
        if contract.resolve(option).get("type") in ("object", "array"):
            yield from variants(contract, option, value)
    if "items" in schema:
        items = value if isinstance(value, list) and value else [{}]
        yield from ([variant, *items[1:]] for variant in variants(contract, schema["items"], items[0]))
    fields = value if isinstance(value, dict) else {}
    for name, field in schema.get("properties", {}).items():
        yield {key: item for key, item in fields.items() if key != name}
        yield from (fields | {name: variant} for variant in variants(contract, field, fields.get(name)))
    if "properties" in schema:
        yield from ({**fields, name: 1} for name in ("nonsense", "NAME", "start_time", "a" * 5_000, "🛠", "a.b", "0"))


WITH_A_BODY = [route for route in EVERY_ROUTE if route[0] in ("POST", "PUT", "PATCH") and "/slack/e" not in route[1]]


@pytest.mark.parametrize(("method", "template"), WITH_A_BODY)
def test_each_wrong_value_in_a_body_is_answered_with_what_is_right(
    method: str, template: str, admin: Person, document: Json
) -> None:
    operation = operations(document)[method, template]
    if "requestBody" not in operation:
        return
    body = json.loads(re.sub(r"\{\w+\}", UNKNOWN_ID, json.dumps(TABLE[f"{method} {template}"].body)))
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    path = filled(template, owner="me")
    bodies = list(dict.fromkeys(map(json.dumps, variants(Contract(document), schema, body))))
    assert len(bodies) >= len(WRONG)
    for sent in sample(bodies, WITH_A_BODY.index((method, template))):
        answer = admin.http.request(method, path, content=sent, headers=JSON)
        assert_well_worded(answer, f"{method} {template} {sent[:200]}")


@pytest.mark.slow
def test_each_wrong_value_in_a_query_is_answered_with_what_is_right(admin: Person, document: Json) -> None:
    tried = 0
    for (method, template), operation in operations(document).items():
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query":
                continue
            for wrong in ("nonsense", "5.5", "-1", "2026-02-30", "٣", "null", "None", "{}", "[]", "a" * 2_000, "0x1", "1e999"):
                answer = admin.http.request(method, filled(template, owner="me"), params={parameter["name"]: wrong})
                assert_well_worded(answer, f"{method} {template}?{parameter['name']}={wrong[:50]}")
                tried += answer.status_code == 422
    assert tried > 200


@pytest.mark.parametrize(("method", "template"), [route for route in EVERY_ROUTE if "{" in route[1]])
def test_a_malformed_id_in_a_path_is_answered_with_a_valid_one(method: str, template: str, admin: Person) -> None:
    for name in re.findall(r"\{(\w+)\}", template):
        if name == "project_id":  # Xero's: any text
            continue
        for wrong in ("abc", "5", UNKNOWN_ID[:-1], f"{UNKNOWN_ID}0", "null", "undefined", "🛠", "a" * 3_000):
            valid = re.sub(r"\{\w+\}", UNKNOWN_ID, json.dumps(TABLE[f"{method} {template}"].body))
            path, body = filled(template, **{name: wrong}), valid if valid != "{}" else None
            answer = admin.http.request(method, path, content=body, headers=JSON if body else {})
            assert_well_worded(answer, f"{method} {template} {wrong[:40]}")
            assert refused_fields(answer) == [name]
            [error] = answer.json()["errors"]
            noun = wording.NOUNS.get(name, name.removesuffix("_id"))
            assert re.search(rf"must be the id of an? {noun}, such as [0-9a-f-]{{36}}", error["message"]), error


def test_a_malformed_id_gets_the_same_sentence_in_path_query_and_body(admin: Person) -> None:
    in_path = problem(admin.http.get("/api/tasks/abc"), 422)["detail"]
    in_query = problem(admin.http.get("/api/time-entries?taskId=abc"), 422)["detail"]
    in_body = problem(admin.http.post("/api/time-entries", json={"taskId": "abc", "startTime": "2026-03-02T09:00:00Z"}), 422)
    sentence = "must be the id of a task, such as 5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f."
    assert [in_path, in_query, in_body["detail"]] == [f"task_id {sentence}", f"taskId {sentence}", f"taskId {sentence}"]


def test_the_sentences_of_the_most_frequent_mistakes(admin: Person) -> None:
    sent: list[tuple[str, Any, str]] = [
        ("/api/time-entries", {"taskId": UNKNOWN_ID, "startTime": "2026-03-02 9am", "duration": 60},
         "startTime must be a time such as 2026-11-23T09:30:00Z."),
        ("/api/time-entries", {"taskId": UNKNOWN_ID, "startTime": "2026-03-02T09:00:00Z", "duration": "60"},
         "duration must be a whole number from 0 to 2678400, such as 3600, or null: send it without quotes and without a "),
        ("/api/tasks", {"title": "Fix it"}, f"customerId is needed: the id of a customer, such as {SOMEONE}."),
        ("/api/tasks", {"title": "Fix it", "customerId": UNKNOWN_ID, "dueDate": "tomorrow"},
         "dueDate must be a day such as 2026-11-29, or null: send it as text, with the year, month and day."),
        ("/api/tasks", {"title": "Fix it", "customerId": UNKNOWN_ID, "due_date": "2026-03-02"},
         "There is no field due_date here. Did you mean dueDate? The fields are assigneeId, customerId, description, dueDate, "
         "id, pillarId, priority, source, status, title."),
        ("/api/tasks", {"title": "Fix it", "customerId": UNKNOWN_ID, "status": "new"},
         "status must be open, in_progress, done or archived."),
        ("/api/customers", {"name": "Acme", "rounding": {"increment": 7}},
         "rounding.increment: increment must be 1, 5, 6, 10, 15 or 30"),
        ("/api/customers", {"name": "Acme", "email": "jo"},
         "email must be an e-mail address, such as jo@acme.example, or null: "),
        ("/api/customers", [], 'Send a JSON object, such as {"name": "Acme Ltd"}.'),
    ]  # fmt: skip
    for path, body, expected in sent:
        assert problem(admin.http.post(path, json=body), 422)["detail"].startswith(expected), path


def test_wrong_headers_are_answered_with_right_ones(admin: Person, stint: Installation) -> None:
    for content_type in ("text/plain", "application/xml", "application/jsonx", "x", ""):
        answer = admin.http.post("/api/customers", content=b"{}", headers={"Content-Type": content_type})
        assert "Content-Type: application/json" in problem(answer, 415)["detail"]
        assert_well_worded(answer, content_type)
    for authorization in ("", "Basic YTpi", "Bearer", "Bearer a b", "Token x", "Bearer " + "a" * 9_000):
        answer = httpx2.get(f"{stint.url}/api/tasks", headers={"Authorization": authorization})
        problem(answer, 401)
        assert_well_worded(answer, authorization[:40])


def test_no_path_hides_a_malformed_id_behind_a_404() -> None:
    """Litestar answers 404 itself for a text that is not of the type in the path."""
    assert [path for _, path, _ in ROUTES if re.search(r":(?!str\b)\w+\}", path)] == []
