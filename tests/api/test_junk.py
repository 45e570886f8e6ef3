"""Junk in every parameter of every route, as the OpenAPI document has them: a route that is new is attacked by itself."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.answers import EVERY_ROUTE, Json, filled, problem, refused_fields
from tests.api.tokens import encoded
from tests.given import Given, Person
from tests.installation import Installation

SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
LONG = "a" * 10_000
# what is in nobody's alphabet of ours
ANYWHERE = ["", " ", "..", "🛠", "NaN", "-1", "'; DROP TABLE users; --", LONG]
NO_UUIDS = ["abc", "5", SOMEONE[:-1], SOMEONE + "0", SOMEONE.replace("5", "g"), f"{SOMEONE},{SOMEONE}"]
NO_NUMBERS = ["abc", "1e30", "1e400", "1.5", "0x10", "1_000", "+5", "1,5", "true", "٣", "9" * 30, "9" * 400]
NO_WAITS = ["-0.001", "10.001", "11", "1e9", "1e400", "inf", "-inf", "abc", "0x10", "true", "9" * 400]
NO_DAYS = [
    "2026-02-30", "0000-00-00", "0000-01-01", "-0001-01-01", "10000-01-01", "1000000000-01-01", "2026-3-2", "20260302T0",
    "2026-W10-1", "2026-03-02T09:00:00Z", "2026-03-02T00:00:00", "2026-03-02 00:00", "5", "86400", "1772409600", "today",
]  # fmt: skip
NO_SYNC_TIMESTAMPS = [
    "-1772409600000", "1" + "0" * 40, "1e400", "1.5", "Infinity", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "1000000000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", SOMEONE, f"{SOMEONE}.", f"{SOMEONE}.-1", f"{SOMEONE}.5 ", f"{SOMEONE}.5\n", f"{SOMEONE}.٣",
    f"{SOMEONE}.{'1' * 21}", f"{SOMEONE.upper()}.5", ".5", "999999999999999",
]  # fmt: skip
NO_MOMENTS = [
    "5", "1772409600", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "yesterday", "2h",
]  # fmt: skip
SYNC = f"{SOMEONE}.700"
SYNC_TIMESTAMPS = [
    "0", "1772409600000", "99999999999999", "2026-11-23T09:30:00.5+02:00", "2026-11-23T09:30:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", SYNC, f"{SOMEONE}.0", f"{SOMEONE}.{2**64}", f"{SOMEONE}.{'9' * 20}",
]  # fmt: skip
MADE_UP_CURSORS = [
    b"null", b"5", b'"text"', b"{}", b"[]", b"[1,2,3]", b"[null,null,null,null]", b'["customers"]',
    b'{"a":1,"b":2,"c":3,"d":4}', b"\xff\x00", b"[" * 700, b"not json",
]  # fmt: skip
MOMENTS = ["2026-03-02", "2026-03-02T09:00:00Z", "700"]  # one of them is a key of any list
NO_KEYS: list[Any] = [
    "yesterday", "", "2026-02-30T09:00:00Z", "1000000000-01-01", 5.5, [], {}, ["2026-03-02"], None, "-1", "1e400",
    str(2**64), 1e400, -1, "9" * 400,
]  # fmt: skip
# of each list, what its cursors say that they are of; a new list is attacked with those of the others
KINDS = {
    "/api/customers": ["customers.created_at", "customers.changed_xid", "customers.changed_xid.reset"],
    "/api/customers/{customer_id}/pillars": ["pillars.created_at"],
    "/api/customers/{customer_id}/users": ["users.created_at"],
    "/api/leads": ["leads.created_at"],
    "/api/focus": ["focus.since"],
    "/api/tasks": ["tasks.created_at", "tasks.changed_xid", "tasks.changed_xid.reset"],
    "/api/tasks/internal-users": ["users.created_at"],
    "/api/time-entries": ["time_entries.start_time"],
    "/api/time-bills": ["time_bills.date"],
}


def _cursor(*parts: Any) -> str:
    return encoded(json.dumps(parts).encode())


def no_cursors(template: str) -> list[str]:
    no_syncs: list[Any] = ["700", 5, None, [], 'x","items":[],"x":"', f"{SYNC}\n"]
    broken = [
        _cursor(kind, *rest)
        for kind in KINDS.get(template, [])
        for rest in [
            *[(key, SOMEONE, SYNC) for key in NO_KEYS],
            *[(key, *pair) for key in MOMENTS for pair in [("no-uuid", SYNC), (5, SYNC), ([], SYNC), (None, SYNC)]],
            *[(key, SOMEONE, sync) for key in MOMENTS for sync in no_syncs],
            *[(key, SOMEONE, SYNC, "more") for key in MOMENTS],
        ]
    ]
    others = sorted({kind for kinds in KINDS.values() for kind in kinds} - set(KINDS.get(template, [])))
    elsewhere = [
        _cursor(kind, key, SOMEONE, SYNC) for kind in ("tasks", "elsewhere.id", "tasks; DROP", *others) for key in MOMENTS
    ]
    return [*map(encoded, MADE_UP_CURSORS), *broken, *elsewhere, "a", "====", "äöü", "a b", "A" * 1000, "A" * 1001]


# by the parameter's kind: what is refused, and what is not
JUNK: dict[str, tuple[list[str], list[str]]] = {
    "uuid": ([*ANYWHERE, *NO_UUIDS, f"{{{SOMEONE}}}", f"urn:uuid:{SOMEONE}"], [SOMEONE, SOMEONE.upper()]),
    "integer": ([*ANYWHERE, *NO_NUMBERS], ["1"]),
    "number": ([*ANYWHERE, *NO_WAITS], ["0", "0.001"]),
    "date": ([*ANYWHERE, *NO_DAYS], ["0001-01-01", "9999-12-31", "2024-02-29"]),
    "boolean": ([*ANYWHERE, "perhaps", "2", "truetrue"], ["true", "false", "1", "0"]),
    "enum": ([*ANYWHERE, "OPEN", "paid", "open,done", "0"], []),
    "cursor": (ANYWHERE, []),
    "lastSyncTimestamp": ([*ANYWHERE, *NO_SYNC_TIMESTAMPS], SYNC_TIMESTAMPS),
    "customer": ([LONG, "a" * 201], [*ANYWHERE[:-1], SOMEONE, "a" * 200, "%", "{", "\\"]),
    "actor": ([LONG, "a" * 101], [*ANYWHERE[:-1], "%", "{"]),
    "queue": ([LONG, "a" * 101], [*ANYWHERE[:-1], "%", "{"]),
    "fingerprint": ([LONG, "a" * 65], [*ANYWHERE[:-1], "%", "{"]),
    "q": (["", LONG, "a" * 201], [*ANYWHERE[1:-1], "%", "_", "{", "\\"]),
    "since": ([*ANYWHERE, *NO_MOMENTS], ["2026-03-02T09:00:00Z", "2026-03-02T09:00:00.5-02:00"]),
    "until": ([*ANYWHERE, *NO_MOMENTS], ["2026-03-02T09:00:00Z", "2026-03-02T09:00:00.5-02:00"]),
}
# any text means something there, also "None"
FREE = {"customer", "actor", "queue", "fingerprint", "q"}


def kind_of(parameter: Json) -> str:
    """Which junk is for it. A parameter of a kind that nobody has thought of here fails the test that meets it."""
    options = parameter["schema"].get("oneOf", [parameter["schema"]])
    schema: Json = parameter["schema"] | next(option for option in options if option.get("type") != "null")
    if parameter["name"] in JUNK:
        return str(parameter["name"])
    return "enum" if "enum" in schema else str(schema.get("format") or schema["type"])


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    made = Given(stint)
    yield made.admin()
    made.close()


@pytest.fixture(scope="module")
def parameters(stint: Installation) -> dict[tuple[str, str], list[Json]]:
    """Of each route; what is not documented is not tested, so the document must have every route."""
    paths = httpx.get(f"{stint.url}/docs/openapi.json").json()["paths"]
    found = {(method, path): paths[path][method.lower()].get("parameters", []) for method, path in EVERY_ROUTE}
    assert sum(len(parameters) for parameters in found.values()) > 45
    return found


def asked(by: Person, method: str, template: str, query: str = "", **path: str) -> httpx.Response:
    body = {"taskId": SOMEONE} if method in ("POST", "PUT", "PATCH") and not template.endswith(("/stop", "/focus")) else None
    return by.http.request(method, f"{filled(template, **path)}?{query}", json=body)


def is_meant(answer: httpx.Response, what: str) -> None:
    assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        problem(answer, answer.status_code)


@pytest.mark.parametrize(("method", "template"), [route for route in EVERY_ROUTE if "{" in route[1]])
def test_a_path_with_junk_is_404(
    method: str, template: str, admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    names = [parameter["name"] for parameter in parameters[method, template] if parameter["in"] == "path"]
    assert names
    for name in names:
        for junk in [*(junk for junk in ANYWHERE if junk not in ("", "..")), *NO_UUIDS]:
            # any text may be an id at Xero, which is not asked as long as nobody has connected it
            problem(asked(admin, method, template, **{name: quote(junk, safe="")}), 409 if "/xero/" in template else 404)
        for junk in (
            ".",
            "%2e%2e",
            "%2f",
            "a%2fb",
            "%20",
            "%25",
            "a/b",
            "%0a",
            "\\",
            "..",
            SOMEONE.upper(),
            f"{{{SOMEONE}}}",
            "me",
        ):
            answer = asked(admin, method, template, **{name: junk})
            is_meant(answer, f"{method} {template} {junk}")
        for junk in ("%00", f"{SOMEONE}%00", "%ff", "%c0%80", "%ed%a0%80"):
            problem(asked(admin, method, template, **{name: junk}), 400)


def test_a_query_with_junk_is_refused_by_the_parameters_public_name(
    admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    for (method, template), found in parameters.items():
        names = {parameter["name"] for parameter in found}
        for parameter in found:
            if parameter["in"] == "path":
                continue
            name, (refused, _) = parameter["name"], JUNK[kind_of(parameter)]
            # a page's cursor is read in the order that is asked for
            with_it = ["", "lastSyncTimestamp=0&"] if {"cursor", "lastSyncTimestamp"} <= names and name == "cursor" else [""]
            below = [str(int(parameter["schema"]["minimum"]) - 1)] if "minimum" in parameter["schema"] else []
            above = [str(int(parameter["schema"]["maximum"]) + 1)] if "maximum" in parameter["schema"] else []
            cursors = no_cursors(template) if name == "cursor" else []
            for mode, junk in product(with_it, [*refused, *below, *above, *cursors]):
                answer = asked(admin, method, template, f"{mode}{name}={quote(junk, safe='')}")
                what = f"{method} {template}?{name}={junk[:60]!r}"
                assert answer.status_code == 422, f"{what}: {answer.status_code} {answer.text[:200]}"
                assert refused_fields(answer) == [name], what
            for junk in ("%00", f"{SOMEONE}%00", "%ff", "%c0%80", "%ed%a0%80"):
                problem(asked(admin, method, template, f"{name}={junk}"), 400)


def test_a_parameter_that_comes_twice_is_refused_by_its_name(
    admin: Person, parameters: dict[tuple[str, str], list[Json]]
) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "query" and parameter["schema"].get("type") != "array":
                for values in (("1", "1"), ("1", "2"), ("1", ""), ("", "")):
                    query = "&".join(f"{parameter['name']}={value}" for value in values)
                    assert refused_fields(asked(admin, method, template, query)) == [parameter["name"]], f"{template}?{query}"


def test_null_in_a_query_is_not_a_parameter_left_out(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "query":
                for null in ("null", "NULL", "None", "undefined"):
                    answer = asked(admin, method, template, f"{parameter['name']}={null}")
                    if parameter["name"] in FREE:  # a text like any other
                        assert answer.status_code == 200, f"{template}: {answer.text[:200]}"
                        continue
                    assert answer.status_code == 422, f"{method} {template}?{parameter['name']}={null}: {answer.status_code}"
                    assert refused_fields(answer) == [parameter["name"]]


def test_a_customer_may_be_called_null(given: Given, admin: Person) -> None:
    customer, other = given.customer(admin, name="Null"), given.customer(admin)
    task, _ = given.task(admin, customer), given.task(admin, other)
    for name in ("null", "NULL"):
        assert [item["id"] for item in admin.http.get("/api/tasks", params={"customer": name}).json()["items"]] == [task["id"]]


def test_odd_values_that_are_fine_are_taken(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    for (method, template), found in parameters.items():
        for parameter in found:
            if parameter["in"] == "path":
                continue
            name, (_, fine) = parameter["name"], JUNK[kind_of(parameter)]
            limits = [str(int(parameter["schema"][limit])) for limit in ("minimum", "maximum") if limit in parameter["schema"]]
            for value in [*fine, *(option for option in parameter["schema"].get("enum", []) if option), *limits]:
                what = f"{method} {template}?{name}={value[:60]!r}"
                answer = asked(admin, method, template, f"{name}={quote(value, safe='')}")
                assert answer.status_code == (404 if "{" in template else 200), f"{what}: {answer.text[:200]}"


def test_days_out_of_order_are_refused(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    having = [route for route, found in parameters.items() if "endDate" in {parameter["name"] for parameter in found}]
    assert having
    for method, template in having:
        answer = asked(admin, method, template, "startDate=2026-03-03&endDate=2026-03-02")
        assert refused_fields(answer) == ["endDate"]
        assert asked(admin, method, template, "startDate=2026-03-03&endDate=2026-03-03").status_code == 200


def test_a_customer_is_named_once(admin: Person, parameters: dict[tuple[str, str], list[Json]]) -> None:
    having = [route for route, found in parameters.items() if "customer" in {parameter["name"] for parameter in found}]
    assert len(having) == 3
    for method, template in having:
        assert refused_fields(asked(admin, method, template, f"customerId={SOMEONE}&customer=Acme")) == ["customer"]


def test_a_cursor_is_of_one_list_in_one_order(admin: Person, given: Given) -> None:
    task = given.task(admin)
    given.people(2)
    for day in ("2026-03-02", "2026-03-03"):
        given.task(admin)
        given.logged(admin, task, start=f"{day}T09:00:00Z")
    since = f"lastSyncTimestamp={quote(admin.get('/api/tasks', limit=1)['syncTimestamp'].partition('.')[0])}.0"
    gets = [template for method, template in EVERY_ROUTE if method == "GET" and "{" not in template]
    lists = [template for template in gets if template.endswith(LIST_NAMES)]
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
