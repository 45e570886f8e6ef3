"""Invalid values in every parameter of every route in the OpenAPI document; a new route is tested without a change here."""

import json
from collections.abc import Iterator
from itertools import count, product
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest

from tests.api.contract import fetch_document
from tests.identity.tokens import encoded
from tests.support.answers import EVERY_ROUTE, Json, filled, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation
from tests.support.sizes import sample

SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
LONG = "a" * 5_000  # a query has at most 8 KiB
# invalid for almost every parameter
ALMOST_ALWAYS_INVALID = ["", " ", "..", "🛠", "NaN", "-1", "'; DROP TABLE users; --", LONG]
INVALID_UUIDS = ["abc", "5", SOMEONE[:-1], SOMEONE + "0", SOMEONE.replace("5", "g"), f"{SOMEONE},{SOMEONE}"]
INVALID_NUMBERS = ["abc", "1e30", "1e400", "1.5", "0x10", "1_000", "+5", "1,5", "true", "٣", "9" * 30, "9" * 400]
INVALID_WAITS = ["-0.001", "10.001", "11", "1e9", "1e400", "inf", "-inf", "abc", "0x10", "true", "9" * 400]
INVALID_DAYS = [
    "2026-02-30", "0000-00-00", "0000-01-01", "-0001-01-01", "10000-01-01", "1000000000-01-01", "2026-3-2", "20260302T0",
    "2026-W10-1", "2026-03-02T09:00:00Z", "2026-03-02T00:00:00", "2026-03-02 00:00", "5", "86400", "1772409600", "today",
]  # fmt: skip
INVALID_SYNC_TIMESTAMPS = [
    "-1772409600000", "1" + "0" * 40, "1e400", "1.5", "Infinity", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "1000000000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", SOMEONE, f"{SOMEONE}.", f"{SOMEONE}.-1", f"{SOMEONE}.5 ", f"{SOMEONE}.5\n", f"{SOMEONE}.٣",
    f"{SOMEONE}.{'1' * 21}", f"{SOMEONE.upper()}.5", ".5", "999999999999999",
]  # fmt: skip
INVALID_TIMES = [
    "5", "1772409600", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "yesterday", "2h",
]  # fmt: skip
SYNC = f"{SOMEONE}.700"
SYNC_TIMESTAMPS = [
    "0", "1772409600000", "99999999999999", "2026-11-23T09:30:00.5+02:00", "2026-11-23T09:30:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", SYNC, f"{SOMEONE}.0", f"{SOMEONE}.{2**64}", f"{SOMEONE}.{'9' * 20}",
]  # fmt: skip
FORGED_CURSORS = [
    b"null", b"5", b'"text"', b"{}", b"[]", b"[1,2,3]", b"[null,null,null,null]", b'["customers"]',
    b'{"a":1,"b":2,"c":3,"d":4}', b"\xff\x00", b"[" * 700, b"not json",
]  # fmt: skip
KEYS = ["2026-03-02", "2026-03-02T09:00:00Z", "700"]  # for each list, one of them is a valid key
INVALID_KEYS: list[Any] = [
    "yesterday", "", "2026-02-30T09:00:00Z", "1000000000-01-01", 5.5, [], {}, ["2026-03-02"], None, "-1", "1e400",
    str(2**64), 1e400, -1, "9" * 400,
]  # fmt: skip
# the tags in the cursors of each list; a list that is missing here is tested with the tags of the others
TAGS = {
    "/api/customers": ["customers.created_at", "customers.changed_xid", "customers.changed_xid.reset"],
    "/api/customers/{customer_id}/pillars": ["pillars.created_at"],
    "/api/customers/{customer_id}/users": ["users.created_at"],
    "/api/leads": ["leads.created_at"],
    "/api/focus": ["focus.since"],
    "/api/tasks": ["tasks.created_at", "tasks.changed_xid", "tasks.changed_xid.reset"],
    "/api/tasks/internal-users": ["users.created_at"],
    "/api/active-timers": ["timers.start_time"],
    "/api/time-entries": ["time_entries.start_time"],
    "/api/time-bills": ["time_bills.date"],
}


def _cursor(*parts: Any) -> str:
    return encoded(json.dumps(parts).encode())


def invalid_cursors(template: str) -> list[str]:
    invalid_syncs: list[Any] = ["700", 5, None, [], 'x","items":[],"x":"', f"{SYNC}\n"]
    broken = [
        _cursor(tag, *rest)
        for tag in TAGS.get(template, [])
        for rest in [
            *[(key, SOMEONE, SYNC) for key in INVALID_KEYS],
            *[(key, *pair) for key in KEYS for pair in [("no-uuid", SYNC), (5, SYNC), ([], SYNC), (None, SYNC)]],
            *[(key, SOMEONE, sync) for key in KEYS for sync in invalid_syncs],
            *[(key, SOMEONE, SYNC, "more") for key in KEYS],
        ]
    ]
    others = sorted({tag for tags in TAGS.values() for tag in tags} - set(TAGS.get(template, [])))
    of_other_lists = [
        _cursor(tag, key, SOMEONE, SYNC) for tag in ("tasks", "unknown.id", "tasks; DROP", *others) for key in KEYS
    ]
    return [*map(encoded, FORGED_CURSORS), *broken, *of_other_lists, "a", "====", "äöü", "a b", "A" * 1000, "A" * 1001]


# by the parameter's kind: values that are refused, and values that are accepted
VALUES: dict[str, tuple[list[str], list[str]]] = {
    "uuid": ([*ALMOST_ALWAYS_INVALID, *INVALID_UUIDS, f"{{{SOMEONE}}}", f"urn:uuid:{SOMEONE}"], [SOMEONE, SOMEONE.upper()]),
    "userId": ([*ALMOST_ALWAYS_INVALID, *INVALID_UUIDS, "ME", "me ", f"{{{SOMEONE}}}", f"urn:uuid:{SOMEONE}"], [SOMEONE, "me"]),
    "integer": ([*ALMOST_ALWAYS_INVALID, *INVALID_NUMBERS], ["1"]),
    "number": ([*ALMOST_ALWAYS_INVALID, *INVALID_WAITS], ["0", "0.001"]),
    "date": ([*ALMOST_ALWAYS_INVALID, *INVALID_DAYS], ["0001-01-01", "9999-12-31", "2024-02-29"]),
    "boolean": ([*ALMOST_ALWAYS_INVALID, "perhaps", "2", "truetrue"], ["true", "false", "1", "0"]),
    "enum": ([*ALMOST_ALWAYS_INVALID, "OPEN", "paid", "open,done", "0"], []),
    # the events of live streams
    "kind": ([*ALMOST_ALWAYS_INVALID, "timer", "0"], ["task", "activeTimer"]),
    "xeroStatus": ([*ALMOST_ALWAYS_INVALID, "SYNCED", "paid", "0"], ["none", "synced", "failed"]),
    "groupBy": ([*ALMOST_ALWAYS_INVALID, "Day", "day,", "day,day", "day, week", "day,week,month"], ["day", "person,week"]),
    "cursor": (ALMOST_ALWAYS_INVALID, []),
    "lastSyncTimestamp": ([*ALMOST_ALWAYS_INVALID, *INVALID_SYNC_TIMESTAMPS], SYNC_TIMESTAMPS),
    "customer": (["", LONG, "a" * 201], [*ALMOST_ALWAYS_INVALID[1:-1], SOMEONE, "a" * 200, "%", "{", "\\"]),
    "actor": (["", LONG, "a" * 101], [*ALMOST_ALWAYS_INVALID[1:-1], "%", "{"]),
    "queue": (["", LONG, "a" * 101], [*ALMOST_ALWAYS_INVALID[1:-1], "%", "{"]),
    "fingerprint": (["", LONG, "a" * 65], [*ALMOST_ALWAYS_INVALID[1:-1], "%", "{"]),
    "reason": (["", " ", LONG, "a" * 501], [*ALMOST_ALWAYS_INVALID[2:-1], "%", "{"]),
    "q": (["", LONG, "a" * 201], [*ALMOST_ALWAYS_INVALID[1:-1], "%", "_", "{", "\\"]),
    "since": ([*ALMOST_ALWAYS_INVALID, *INVALID_TIMES], ["2026-03-02T09:00:00Z", "2026-03-02T09:00:00.5-02:00"]),
    "until": ([*ALMOST_ALWAYS_INVALID, *INVALID_TIMES], ["2026-03-02T09:00:00Z", "2026-03-02T09:00:00.5-02:00"]),
}
# every text is valid there, also "None"
FREE_TEXTS = {"customer", "actor", "queue", "fingerprint", "reason", "q"}


def kind_of(parameter: Json) -> str:
    """The key of the parameter's values in VALUES. A new kind of parameter fails the tests until it is added there."""
    options = parameter["schema"].get("oneOf", [parameter["schema"]])
    schema: Json = parameter["schema"] | next(option for option in options if option.get("type") != "null")
    if parameter["name"] in VALUES:
        return str(parameter["name"])
    return "enum" if "enum" in schema else str(schema.get("format") or schema["type"])


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    given = Given(stint)
    yield given.admin()
    given.close()


@pytest.fixture(scope="module")
def parameters(stint: Installation) -> dict[tuple[str, str], list[Json]]:
    """The parameters of each route in the OpenAPI document, which must have every route."""
    paths = fetch_document(stint)["paths"]
    found = {(method, path): paths[path][method.lower()].get("parameters", []) for method, path in EVERY_ROUTE}
    assert sum(len(parameters) for parameters in found.values()) > 45
    return found


def send(by: Person, method: str, template: str, query: str = "", **path: str) -> httpx2.Response:
    body = {"taskId": SOMEONE} if method in ("POST", "PUT", "PATCH") and not template.endswith(("/stop", "/focus")) else None
    return by.http.request(method, f"{filled(template, **path)}?{query}", json=body)


def assert_no_server_error(answer: httpx2.Response, what: str) -> None:
    assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        problem(answer, answer.status_code)


@pytest.mark.parametrize(("method", "template"), [route for route in EVERY_ROUTE if "{" in route[1]])
def test_a_path_with_an_invalid_value_is_refused(
    method: str, template: str, admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    names = [parameter["name"] for parameter in parameters[method, template] if parameter["in"] == "path"]
    assert names
    for name in names:
        start = EVERY_ROUTE.index((method, template))
        invalid = [*(junk for junk in ALMOST_ALWAYS_INVALID if junk not in ("", "..")), *INVALID_UUIDS]
        for junk in sample(invalid, start):
            # any text can be an id at Xero, which is not called, because no organisation is connected
            problem(send(admin, method, template, **{name: quote(junk, safe="")}), 409 if "/xero/" in template else 422)
        odd = [".", "%2e%2e", "%2f", "a%2fb", "%20", "%25", "a/b", "%0a", "\\", "..", SOMEONE.upper(), f"{{{SOMEONE}}}", "me"]
        for junk in sample(odd, start):
            answer = send(admin, method, template, **{name: junk})
            assert_no_server_error(answer, f"{method} {template} {junk}")
        for junk in ("%00", f"{SOMEONE}%00", "%ff", "%c0%80", "%ed%a0%80"):
            problem(send(admin, method, template, **{name: junk}), 400)


@pytest.mark.slow
def test_an_invalid_value_in_a_query_is_refused_with_the_parameters_name(
    admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    starts = count()
    for (method, template), found in parameters.items():
        names = {parameter["name"] for parameter in found}
        for parameter in found:
            if parameter["in"] == "path":
                continue
            name, (refused, _) = parameter["name"], VALUES[kind_of(parameter)]
            # a cursor is checked against the requested order
            orders = ["", "lastSyncTimestamp=0&"] if {"cursor", "lastSyncTimestamp"} <= names and name == "cursor" else [""]
            below = [str(int(parameter["schema"]["minimum"]) - 1)] if "minimum" in parameter["schema"] else []
            above = [str(int(parameter["schema"]["maximum"]) + 1)] if "maximum" in parameter["schema"] else []
            cursors = invalid_cursors(template) if name == "cursor" else []
            values = [*below, *above, *sample([*refused, *cursors], next(starts))]
            for order, junk in product(orders, values):
                answer = send(admin, method, template, f"{order}{name}={quote(junk, safe='')}")
                what = f"{method} {template}?{name}={junk[:60]!r}"
                assert answer.status_code == 422, f"{what}: {answer.status_code} {answer.text[:200]}"
                assert refused_fields(answer) == [name], what
            for junk in ("%00", f"{SOMEONE}%00", "%ff", "%c0%80", "%ed%a0%80"):
                problem(send(admin, method, template, f"{name}={junk}"), 400)


# probes and Slack's requests, whose senders may add parameters (docs/decisions/0028)
ANY_QUERY = {"/health/live", "/health/ready", "/api/slack/events", "/api/slack/interactivity"}
UNKNOWN_PARAMETERS = [
    "taskID=1",
    "output=csv",
    "from=2026-01-01",
    "x",
    "=",
    "limit%20=5",
    "a[]=1",
    f"{LONG}=1",
    "🛠=1",
    "%25=%25",
]


def listed(known: list[str]) -> str:
    """The end of the message about an unknown parameter of a route with these parameters."""
    if len(known) == 1:
        return f"The only query parameter is {known[0]}."
    return f"The query parameters are {', '.join(known)}." if known else "here: there are none."


def test_an_unknown_parameter_is_refused_with_the_known_ones(
    admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    for (method, template), found in parameters.items():
        known = sorted(parameter["name"] for parameter in found if parameter["in"] == "query")
        for query in [
            *UNKNOWN_PARAMETERS,
            *(f"{name.upper()}=1" for name in known),
            *(f"{name}s=1" for name in known if name != "q"),
        ]:
            answer = send(admin, method, template, query)
            if template in ANY_QUERY:
                assert answer.status_code in (200, 401), template
                continue
            what, name = f"{method} {template}?{query[:40]}", unquote(query.partition("=")[0])
            assert answer.status_code == 422, f"{what}: {answer.status_code} {answer.text[:300]}"
            assert refused_fields(answer) == [name if len(name) <= 40 else f"{name[:40]}…"], what
            [error] = answer.json()["errors"]
            assert error["message"] == answer.json()["detail"]
            assert error["message"].endswith(listed(known)), what
            near = next((other for other in known if other.lower() == name.lower().rstrip("s")), None)
            assert near is None or f"Did you mean {near}?" in error["message"], what


def test_unknown_parameters_are_refused_only_after_the_token_and_the_role(given: Given, stint: Installation) -> None:
    problem(httpx2.get(f"{stint.url}/api/tasks?taskID=1"), 401)
    customer = given.customer(given.person())
    problem(given.person("customer_user", customer["id"]).http.get("/api/leads?taskID=1"), 403)
    problem(given.person().http.get("/api/unknown?taskID=1"), 404)
    assert httpx2.get(f"{stint.url}/docs?x=1").status_code == 200
    assert httpx2.get(f"{stint.url}/docs-assets/swagger-ui.css?v=1").status_code == 200


def test_all_wrong_parameters_are_named_at_once_up_to_a_limit(admin: Person) -> None:
    answer = admin.http.get("/api/time-entries?taskID=1&customer=&limit=1&limit=2&userId=null")
    assert refused_fields(answer) == ["taskID", "customer", "limit", "userId"]
    many = admin.http.get("/api/time-entries?" + "&".join(f"p{number}=1" for number in range(100)))
    assert len(refused_fields(many)) == 20 and len(many.content) < 10_000


@pytest.mark.parametrize("query", ["&".join(f"p{number}=1" for number in range(5_000)), "a" * 10_000, "limit=" + "9" * 10_000])
def test_a_query_that_is_too_long_is_refused_as_a_whole(query: str, admin: Person) -> None:
    assert "longer than 8 KiB" in problem(admin.http.get(f"/api/time-entries?{query}"), 400)["detail"]


def test_an_empty_parameter_is_refused_with_its_name(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "query":
                for query in (parameter["name"], f"{parameter['name']}="):
                    assert refused_fields(send(admin, method, template, query)) == [parameter["name"]], f"{template}?{query}"


def test_a_repeated_parameter_is_refused_with_its_name(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "query" and parameter["schema"].get("type") != "array":
                for values in (("1", "1"), ("1", "2"), ("1", ""), ("", "")):
                    query = "&".join(f"{parameter['name']}={value}" for value in values)
                    assert refused_fields(send(admin, method, template, query)) == [parameter["name"]], f"{template}?{query}"


def test_null_in_a_query_is_not_an_omitted_parameter(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "query":
                for null in ("null", "NULL", "None", "undefined"):
                    answer = send(admin, method, template, f"{parameter['name']}={null}")
                    if parameter["name"] in FREE_TEXTS:  # a valid text
                        assert answer.status_code == (404 if "{" in template else 200), f"{template}: {answer.text[:200]}"
                        continue
                    assert answer.status_code == 422, f"{method} {template}?{parameter['name']}={null}: {answer.status_code}"
                    assert refused_fields(answer) == [parameter["name"]]


def test_a_customer_may_be_called_null(given: Given, admin: Person) -> None:
    customer, other = given.customer(admin, name="Null"), given.customer(admin)
    task, _ = given.task(admin, customer), given.task(admin, other)
    for name in ("null", "NULL"):
        assert [item["id"] for item in admin.http.get("/api/tasks", params={"customer": name}).json()["items"]] == [task["id"]]


def test_unusual_valid_values_are_accepted(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "path":
                continue
            name, (_, valid) = parameter["name"], VALUES[kind_of(parameter)]
            limits = [str(int(parameter["schema"][limit])) for limit in ("minimum", "maximum") if limit in parameter["schema"]]
            for value in [*valid, *(option for option in parameter["schema"].get("enum", []) if option), *limits]:
                what = f"{method} {template}?{name}={value[:60]!r}"
                # a stream never ends
                sent = "HEAD" if template == "/api/events" else method
                answer = send(admin, sent, template, f"{name}={quote(value, safe='')}")
                assert answer.status_code == (404 if "{" in template else 200), f"{what}: {answer.text[:200]}"


def test_an_end_before_the_start_is_refused(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    routes = [route for route, found in parameters.items() if "endDate" in {parameter["name"] for parameter in found}]
    assert routes
    for method, template in routes:
        answer = send(admin, method, template, "startDate=2026-03-03&endDate=2026-03-02")
        assert refused_fields(answer) == ["endDate"], f"{method} {template}: call check_days of schemas/hours/firm_days.py"
        answer = send(admin, method, template, "startDate=2026-03-03&endDate=2026-03-03")
        # nothing has the id in the path
        assert answer.status_code == (404 if "{" in template else 200), f"{method} {template}: {answer.text[:200]}"


def test_a_customer_is_named_by_one_parameter_only(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    routes = [route for route, found in parameters.items() if "customer" in {parameter["name"] for parameter in found}]
    assert len(routes) == 4
    for method, template in routes:
        assert refused_fields(send(admin, method, template, f"customerId={SOMEONE}&customer=Acme")) == ["customer"]


def test_a_cursor_is_valid_for_one_list_and_order_only(admin: Person, given: Given) -> None:
    task = given.task(admin)
    given.people(2)
    for day in ("2026-03-02", "2026-03-03"):
        given.task(admin)
        given.logged(admin, task, start=f"{day}T09:00:00Z")
    since = f"lastSyncTimestamp={quote(admin.get('/api/tasks', limit=1)['syncTimestamp'].partition('.')[0])}.0"
    get_paths = [template for method, template in EVERY_ROUTE if method == "GET" and "{" not in template]
    lists = [template for template in get_paths if template.endswith(LIST_NAMES)]
    pages = [*((template, "") for template in lists), ("/api/tasks", since)]
    cursors = {page: admin.http.get(f"{page[0]}?{page[1]}&limit=1").json()["nextCursor"] for page in pages}
    cursors["/api/time-bills/recompute/{job_id}", ""] = "1"
    assert all(cursors.values()) and len(set(cursors.values())) == 7, cursors

    job = admin.post("/api/time-bills/recompute", {"dryRun": True, "customerId": task["customerId"]}, status=202)
    for page, cursor in cursors.items():
        for (template, query), other in cursors.items():
            answer = admin.http.get(f"{filled(template, job_id=job['id'])}?{query}&cursor={other}")
            assert answer.status_code == 200, answer.text
            if page != (template, query):
                answer = admin.http.get(f"{filled(template, job_id=job['id'])}?{query}&cursor={cursor}")
                assert refused_fields(answer) == ["cursor"], (page, template, query)


LIST_NAMES = ("/customers", "/tasks", "/internal-users", "/time-entries", "/time-bills")


@pytest.mark.parametrize("path", [
    "/api/tasks/%00", "/api/%ff", "/%00", "/api/tasks?userId=%00", "/api/tasks?cursor=%ff%fe", "/api/tasks?%00=1",
    "/api/tasks?a=%c0%80", "/api/time-entries?customer=%ed%a0%80", "/api/tasks?lastSyncTimestamp=%00",
])  # fmt: skip
def test_nul_and_bad_utf8_in_path_or_query_are_400(path: str, admin: Person) -> None:
    problem(admin.http.get(path), 400)
