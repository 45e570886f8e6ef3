"""The OpenAPI document says what really happens, and its page asks no other site for anything."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from ops.sandbox import slack_app
from ops.sandbox.slack_app import Sent
from tests.api.answers import EVERY_ROUTE, Json, filled
from tests.api.table import TABLE
from tests.given import Given, Person
from tests.installation import Installation

HTTP = {"get", "post", "put", "patch", "delete"}
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
CHALLENGE = b'{"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkv"}'


@pytest.fixture(scope="module")
def document(stint: Installation) -> Json:
    answer = httpx.get(f"{stint.url}/docs/openapi.json")
    assert answer.status_code == 200
    body: Json = answer.json()
    return body


def operations(document: Json) -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): entry
        for path, item in document["paths"].items()
        for method, entry in item.items()
        if method in HTTP
    }


class Contract:
    """Holds values against the document's schemas: the part of JSON Schema that it uses."""

    def __init__(self, document: Json) -> None:
        self._schemas = document["components"]["schemas"]

    def resolve(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def faults(self, value: Any, schema: Json, where: str = "") -> list[str]:
        schema = self.resolve(schema)
        if options := schema.get("anyOf", schema.get("oneOf")):
            tried = [self.faults(value, option, where) for option in options]
            return [] if not all(tried) else [f"{where}: {value!r} fits none of {tried}"]
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(_is(value, kind) for kind in kinds):
            return [f"{where}: {value!r} is not {kinds}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{where}: {value!r} is not one of {schema['enum']}"]
        if isinstance(value, str) and not _has_format(value, schema.get("format", "")):
            return [f"{where}: {value!r} is no {schema['format']}"]
        if isinstance(value, list):
            items = schema.get("items", {})
            return [fault for number, item in enumerate(value) for fault in self.faults(item, items, f"{where}[{number}]")]
        if isinstance(value, dict) and "properties" in schema:
            known = schema["properties"]
            missing = [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
            unknown = [f"{where}.{name} is not documented" for name in value if name not in known]
            inner = [
                fault
                for name, item in value.items()
                if name in known
                for fault in self.faults(item, known[name], f"{where}.{name}")
            ]
            return missing + unknown + inner
        return []


def _is(value: Any, kind: str) -> bool:
    types: dict[str, Any] = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None), "number": float}
    return (isinstance(value, int) and not isinstance(value, bool)) if kind == "integer" else isinstance(value, types[kind])


def _has_format(value: str, form: str) -> bool:
    try:
        match form:
            case "uuid":
                return str(UUID(value)) == value
            case "date":
                return date.fromisoformat(value).isoformat() == value
            case "date-time":
                return value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
    return True


def test_the_document_has_every_route(document: Json) -> None:
    assert document["openapi"].startswith("3.")
    assert sorted(operations(document)) == EVERY_ROUTE


def test_every_operation_says_what_it_does_and_who_may(document: Json) -> None:
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert document["security"] == [{"bearer": []}]
    for (method, path), entry in operations(document).items():
        assert entry["summary"] and entry["description"], path
        assert ("security" in entry) is not TABLE[f"{method} {path}"].needs_token, path
        assert entry.get("security", [{}]) == [{}], f"{method} {path}"  # nothing is asked for
        for parameter in entry.get("parameters", []):
            assert parameter["schema"], path
            if parameter["in"] == "query":
                assert parameter.get("description"), f"{path}: {parameter['name']}"
    assert len({entry["operationId"] for entry in operations(document).values()}) == len(EVERY_ROUTE)


def test_what_answers_204_says_that_nothing_follows(document: Json) -> None:
    without = {key: entry["responses"]["204"] for key, entry in operations(document).items() if "204" in entry["responses"]}
    assert {method for method, _ in without} == {"DELETE"}
    assert all("content" not in answer for answer in without.values())
    for (method, path), entry in operations(document).items():
        if method == "DELETE":
            assert [status for status in entry["responses"] if status < "300"] == ["204"] and "requestBody" not in entry, path


def test_a_body_that_may_be_left_out_is_not_required(document: Json) -> None:
    for (method, path), entry in operations(document).items():
        if "requestBody" in entry:
            may_be_left_out = path.endswith(("/start", "/recompute"))
            assert entry["requestBody"].get("required", False) is not may_be_left_out, f"{method} {path}"


def test_every_operation_documents_its_errors_as_problems(document: Json) -> None:
    contract = Contract(document)
    for (method, path), entry in operations(document).items():
        expected = {"400", "500", "503"} | ({"404"} if "{" in path else set())
        expected |= {"401", "403"} if TABLE[f"{method} {path}"].needs_token else set()
        expected |= {"409", "413", "415", "422"} if method in WRITING else {"422"}
        assert expected <= set(entry["responses"]), f"{method} {path}"
        for status, answer in entry["responses"].items():
            if status >= "400" and (path, status) != ("/health/ready", "503"):
                schema = contract.resolve(answer["content"]["application/problem+json"]["schema"])
                assert set(schema["required"]) == {"type", "title", "status", "detail", "requestId"}, f"{path} {status}"
                assert "errors" in schema["properties"]


def test_every_body_has_an_example(document: Json) -> None:
    contract = Contract(document)
    bodies = {key: entry["requestBody"] for key, entry in operations(document).items() if "requestBody" in entry}
    with_a_body = WRITING - {"DELETE"}
    assert set(bodies) == {
        route
        for route in EVERY_ROUTE
        # what Slack sends is Slack's to document
        if route[0] in with_a_body and not route[1].endswith(("/stop", "/focus", "/slack/events", "/slack/interactivity"))
    }
    for key, body in bodies.items():
        schema = body["content"]["application/json"]["schema"]
        options = [contract.resolve(option) for option in schema.get("oneOf", [schema])]
        fields = [field for option in options for field in option.get("properties", {}).values()]
        assert any(field.get("examples") for field in fields), key
        examples = [(field, example) for field in fields for example in field.get("examples", [])]
        assert not [fault for field, example in examples for fault in contract.faults(example, field)], key


def test_every_name_is_camel_case(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            assert re.fullmatch(r"[a-z][a-zA-Z]*", field), f"{name}.{field}"
    for (_, path), entry in operations(document).items():
        for parameter in entry.get("parameters", []):
            assert parameter["in"] == "path" or re.fullmatch(r"[a-z][a-zA-Z]*", parameter["name"]), path


def check_dead_letters(check: Callable[..., None], given: Given, admin: Person, customer: Json, ids: dict[str, str]) -> None:
    """There is no mail server here, so what was to tell of an invitation is a dead letter."""
    domain = f"{given.new_id()}.example"
    for name in ("a", "b", "c"):
        admin.post(f"/api/customers/{customer['id']}/users/invite", {"email": f"{name}@{domain}", "name": "Ida"})
    given.settled()
    first, *letters = [item["id"] for item in admin.get("/api/dead-letters", q=domain)["items"]]
    ids["letter_id"] = first
    check(admin, "GET", "/api/dead-letters", actor="send_mail", since="2026-01-01T00:00:00Z")
    check(admin, "GET", "/api/dead-letters", since="5")  # 422
    check(admin, "GET", "/api/dead-letters/groups")
    check(admin, "GET", "/api/dead-letters/{letter_id}")
    body = admin.get(f"/api/dead-letters/{first}")["body"]
    for wanted in ({"ids": letters}, {"all": True, "ids": letters}):  # the second is 422
        check(admin, "POST", "/api/dead-letters/replay", {"select": wanted, "reason": "hoping", "dryRun": True})
    slowly = {"select": {"ids": letters}, "reason": "hoping", "ratePerSecond": 0.001}
    ids["replay_id"] = admin.post("/api/dead-letters/replay", slowly, status=202)["id"]
    check(admin, "GET", "/api/dead-letters/replays/{replay_id}")
    for _ in range(2):  # the second is 409
        check(admin, "DELETE", "/api/dead-letters/replays/{replay_id}")
    for verb in ("discard", "restore"):
        check(admin, "POST", f"/api/dead-letters/{verb}", {"select": {"ids": [first]}, "reason": "why not"})
    check(admin, "POST", "/api/dead-letters/{letter_id}/edit", {"body": {**body, "to": 5}, "reason": "a typo"})  # 422
    check(admin, "POST", "/api/dead-letters/{letter_id}/edit", {"body": {**body, "to": f"d@{domain}"}, "reason": "a typo"})


def test_real_answers_are_as_documented(document: Json, given: Given) -> None:
    contract, documented = Contract(document), operations(document)
    by, admin = given.person(), given.admin()
    customer = given.customer(by, email="it@acme.example", rounding={"increment": 15, "mode": "up"})
    task = given.task(by, customer, assigneeId=by.id, dueDate="2026-12-24")
    bill = given.bill(by, task)
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": "why"})
    given.approved_bill(by, admin)
    entry = by.get("/api/time-entries", userId=by.id)["items"][0]
    ids = {
        "project_id": "P1",
        "customer_id": customer["id"],
        "task_id": task["id"],
        "entry_id": entry["id"],
        "bill_id": bill["id"],
        "owner": "me",
    }
    start = by.get("/api/tasks", limit=1)
    seen = set()

    def check(
        person: Any, method: str, template: str, body: Json | None = None, signed: Sent | None = None, **parameters: Any
    ) -> None:
        how: Json = {"json": body} if signed is None else {"content": signed.body, "headers": signed.headers}
        with person.http.stream(method, filled(template, **ids), params=parameters, **how) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                answer.read()
        documented_answer = documented[method, template]["responses"][str(answer.status_code)]
        if answer.status_code == 204:
            assert "content" not in documented_answer and "content-type" not in answer.headers and not answer.content
            seen.add((method, template))
            return
        said, content_type = documented_answer["content"], answer.headers["content-type"].partition(";")[0]
        assert content_type in {name.partition(";")[0] for name in said}, (
            f"{method} {template} {answer.status_code}: {content_type}"
        )
        if "json" in content_type:
            assert contract.faults(answer.json(), said[content_type]["schema"], template) == [], f"{method} {template}"
        if answer.status_code < 300:
            seen.add((method, template))

    check(by, "POST", "/api/customers", {"name": "Acme"})
    check(by, "POST", "/api/customers", {"name": 5, "x": 1})
    check(by, "PUT", "/api/customers/{customer_id}", {"notes": "new"})
    check(by, "PUT", "/api/customers/{customer_id}", {"notes": "new", "version": 1})  # 409, with `current`
    check(by, "DELETE", "/api/customers/{customer_id}")  # 409, with `references`
    check(by, "GET", "/api/customers", lastSyncTimestamp="0")  # with `reset`
    for _ in range(2):
        check(by, "POST", "/api/customers/{customer_id}/pillars", {"name": "Hosting"})  # 409, with `pillarId`
        check(by, "PUT", "/api/customers/{customer_id}/focus")
    ids["pillar_id"] = by.get(f"/api/customers/{customer['id']}/pillars")["items"][0]["id"]
    check(by, "GET", "/api/customers/{customer_id}/pillars/{pillar_id}")
    for _ in range(2):
        check(by, "PUT", "/api/customers/{customer_id}/pillars/{pillar_id}", {"active": False, "version": 1})
    check(by, "GET", "/api/focus")
    for _ in range(2):
        check(by, "DELETE", "/api/customers/{customer_id}/pillars/{pillar_id}")
        check(by, "DELETE", "/api/customers/{customer_id}/focus")
    ids["pillar_id"] = task["pillarId"]
    ids["customer_id"] = by.post("/api/customers", {"name": "Empty"})["id"]
    check(by, "DELETE", "/api/customers/{customer_id}")
    ids["customer_id"] = customer["id"]
    invitation = {"email": "jo@acme.example", "name": "Jo"}
    for _ in range(2):
        check(by, "POST", "/api/customers/{customer_id}/users/invite", invitation)  # the second is a user already
        check(by, "POST", "/api/customers/{customer_id}/users/resend-invite", {"email": "jo@acme.example"})  # 429
    check(by, "POST", "/api/customers/{customer_id}/users/resend-invite", {})  # 422
    check(by, "GET", "/api/customers/{customer_id}/users")
    ids["user_id"] = by.get(f"/api/customers/{customer['id']}/users")["items"][0]["id"]
    for _ in range(2):
        check(by, "DELETE", "/api/customers/{customer_id}/users/{user_id}")
    check(by, "POST", "/auth/code", {"email": by.email})
    check(by, "POST", "/auth/token", {"email": by.email, "code": "wrong"})  # 401
    check(by, "POST", "/auth/token", {"email": by.email, "code": given.code(by)})
    check(by, "POST", "/api/tasks", {"title": "A", "customerId": customer["id"]})
    for template in ("/api/time-entries", "/api/time-bills"):
        check(by, "GET", template, enrich="true")
        check(by, "GET", template, limit="abc")
    check(by, "PATCH", "/api/time-entries/{entry_id}", {"duration": 60})
    check(by, "PATCH", "/api/time-bills/{bill_id}", {"memo": "mine"})
    channel = {"channelId": f"C{customer['id'][:8].upper()}", "channelName": "acme", "customerId": customer["id"]}
    ids["mapping_id"] = by.post("/api/slack/channel-mappings", channel)["id"]
    check(by, "POST", "/api/slack/channel-mappings", channel)  # 409
    check(by, "POST", "/api/slack/channel-mappings", channel | {"channelId": "C0OPENAPI"})
    check(by, "GET", "/api/slack/channel-mappings")
    for _ in range(2):
        check(by, "PUT", "/api/slack/channel-mappings/{mapping_id}", {"channelName": "b", "version": 1})  # 409, with `current`
    check(by, "DELETE", "/api/slack/channel-mappings/{mapping_id}")
    for sent in (
        slack_app.signed(slack_app.EVENTS, CHALLENGE, content_type="application/json"),
        slack_app.interaction("block_suggestion", user="U1", action_id="task", block_id="b", value=""),
        slack_app.signed(slack_app.INTERACTIVITY, b"rubbish", content_type="application/json"),
    ):
        check(by, "POST", sent.path, signed=sent)
    check(by, "POST", slack_app.EVENTS)  # 401
    check(by, "POST", "/api/tasks/{task_id}/stop", wait=11)
    for _ in range(2):
        check(by, "POST", "/api/tasks/{task_id}/start", {"notes": "logs"})
    check(by, "GET", "/api/active-timers/{owner}")
    check(by, "POST", "/api/tasks/{task_id}/stop")
    check(by, "POST", "/api/tasks/{task_id}/stop", wait=10)
    check(by, "GET", "/api/active-timers/{owner}")  # 404
    for _ in range(2):
        check(by, "PUT", "/api/active-timers/{owner}", {"taskId": task["id"], "notes": "logs"})
    check(by, "PUT", "/api/active-timers/{owner}", {"taskId": task["id"], "version": 99})  # 409, with `current`
    for _ in range(2):
        check(by, "DELETE", "/api/active-timers/{owner}")
    check(by, "PUT", "/api/tasks/{task_id}", {"status": "done", "customerId": given.customer(by)["id"]})
    check(by, "PUT", "/api/tasks/{task_id}", {"status": "done", "version": 1})
    for since in (start["syncTimestamp"], f"{given.new_id()}.5"):
        check(by, "GET", "/api/tasks", lastSyncTimestamp=since, status="open")  # with what is gone; with `reset`
    for _ in range(2):
        check(admin, "POST", "/api/time-bills/recompute", {"dryRun": True, "userId": by.id})
    ids["job_id"] = admin.post("/api/time-bills/recompute", {"userId": by.id}, status=202)["id"]
    given.settled()
    check(admin, "GET", "/api/time-bills/recompute/{job_id}")
    check(by, "GET", "/api/time-bills/recompute/{job_id}")  # 403
    for method, template in EVERY_ROUTE:
        if method == "GET" and "owner" not in template and "job_id" not in template:
            check(by, method, template)
    movable = by.get("/api/time-entries", taskId=task["id"])["items"][0]
    ids["entry_id"] = movable["id"]
    check(by, "PATCH", "/api/time-entries/{entry_id}", {"duration": 60, "allowOverlap": True})
    check(by, "POST", "/api/time-entries/{entry_id}/notes", {"append": "a line"})
    check(by, "POST", "/api/time-entries/{entry_id}/notes", {"append": "a line", "version": 99})  # 409, with `current`
    logged = {"taskId": task["id"], "startTime": "2026-03-05T09:00:00Z", "duration": 60}
    for _ in range(2):
        check(by, "POST", "/api/time-entries", logged)  # the second overlaps
    given.settled()
    seen_bills = [{"id": row["id"], "version": 99} for row in by.get("/api/time-bills", userId=by.id)["items"]]
    check(admin, "POST", "/api/time-bills/approve-all", {"bills": [*seen_bills, {"id": given.new_id(), "version": 1}]})
    check(admin, "POST", "/api/time-bills/approve-all", {"bills": [{"id": bill["id"]}]})  # 422
    check(by, "POST", "/api/leads", {"name": "Ada Park", "email": "ada@example.com", "budget": 5})
    check(by, "POST", "/api/leads", {"name": "Ada Park"})  # 422
    check(by, "GET", "/api/leads")
    check_dead_letters(check, given, admin, customer, ids)
    check(by, "POST", "/auth/code", {"email": "nobody@example.com"})
    check(by, "POST", "/auth/token", {"email": "nobody@example.com", "code": "123456"})  # 401
    check(by, "POST", "/auth/token", {"email": by.email, "code": given.code(by)})
    ids["entry_id"] = by.get("/api/time-entries", userId=by.id, startDate="2026-03-05", endDate="2026-03-05")["items"][0]["id"]
    for _ in range(2):
        check(by, "DELETE", "/api/time-entries/{entry_id}")
    check(admin, "PATCH", "/api/time-bills/{bill_id}", {"status": "approved", "version": 1})  # 409, with `current`
    for since in (start["syncTimestamp"], "0"):  # with what is gone; with `reset`
        check(by, "GET", "/api/sync", lastSyncTimestamp=since)
    by.post(f"/api/tasks/{task['id']}/start", status=201)
    noted = {"id": movable["id"], "append": "a line"}
    run = {"id": given.new_id(), "taskId": task["id"], "startTime": "2026-03-06T09:00:00Z", "endTime": "2026-03-06T10:00:00Z"}
    queued = [
        {"opId": given.new_id(), "kind": kind, "data": data, "baseVersion": base}
        for kind, data, base in (
            ("entry.notes", noted, None), ("entry.notes", noted, 99), ("entry.notes", {"id": "x"}, None),
            ("timer.stop", run, None),
            ("entry.delete", {"id": run["id"]}, 1), ("timer.start", {**run, "endTime": None}, None), ("x", {}, None),
            ("timer.start", {"id": given.new_id(), "taskId": task["id"], "startTime": run["startTime"]}, None),
            ("task.put", {"id": task["id"], "title": "Mended"}, 1),
        )
    ]  # fmt: skip
    check(by, "POST", "/api/sync", {"lastSyncTimestamp": start["syncTimestamp"], "operations": queued})
    check(by, "POST", "/api/sync", {"operations": [{"opId": "x"}]})  # 422
    # what Xero has a part in: tests/xero/test_connection.py
    assert seen == {route for route in EVERY_ROUTE if not route[1].startswith("/api/xero/")} | {("GET", "/api/xero/status")}


def test_the_page_asks_no_other_site_for_anything(stint: Installation) -> None:
    page = httpx.get(f"{stint.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", page.text)
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    for asset in assets:
        answer = httpx.get(stint.url + asset)
        assert answer.status_code == 200 and answer.content, asset
        if asset.endswith(".css"):
            assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", answer.text), asset
            assert "@import" not in answer.text


def test_the_page_needs_no_token_and_no_postgres(without_postgres: Installation) -> None:
    for path in ("/docs", "/docs/openapi.json", "/docs-assets/swagger-ui.css"):
        assert httpx.get(without_postgres.url + path).status_code == 200
