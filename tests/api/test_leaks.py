"""No answer contains data of another customer: every GET route is requested with every parameter, and with pairs of them (a
sample of the pairs without STINT_TEST_FULL=1), and the answers are searched for all texts and ids of the other customer's rows,
and for what is wrong at the firm with bills of one's own."""

import base64
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any
from zlib import crc32

import httpx2
import pytest

from tests.api.contract import fetch_document
from tests.api.customer_rows import fill_in, ids_of, texts_of, touch
from tests.api.table import TABLE
from tests.api.tenants import Tenant, filled, operations, parameters, tenant, with_ids
from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import Installation, new_database
from tests.support.sizes import sample
from tests.sync.streams import subscribed, wait_for_all_changes

ROLES = ["customer_admin", "customer_user"]


@dataclass(frozen=True)
class Secrets:
    """Two customers: the texts of `theirs` only, and ids and cursors of `theirs` that users of `own` could send."""

    theirs: Tenant
    own: Tenant
    texts: set[str]
    stolen: dict[str, list[str]]
    people: dict[str, Person]


@pytest.fixture(scope="module")
def stint(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A separate installation: this module writes rows by SQL, and `./stint verify` would report them in the shared one."""
    installation = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("leaks"))
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture(scope="module")
def documented(stint: Installation) -> dict[str, Json]:
    return operations(fetch_document(stint))


@pytest.fixture(scope="module")
def secrets(stint: Installation, documented: dict[str, Json]) -> Iterator[Secrets]:
    with closing(Given(stint)) as given:
        before = given.admin().get("/api/tasks")["syncTimestamp"]
        theirs, own = tenant_with_all_hours(given), tenant_with_all_hours(given)
        with stint.sql() as conn:
            ids = ids_of(conn, theirs.ids["customer_id"])
            fill_in(conn, ids)
            texts = texts_of(conn, ids) - texts_of(conn, ids_of(conn, own.ids["customer_id"]))
        name = given.admin().get(f"/api/customers/{theirs.ids['customer_id']}")["name"]
        assert {name, theirs.consultant.email, *theirs.ids.values()} <= texts
        texts.add(planted_trouble(given, own))
        theirs_task = theirs.consultant.get(f"/api/tasks/{theirs.ids['task_id']}")
        stolen = {
            "customer": [name, theirs.ids["customer_id"]],
            "pillarId": [theirs.ids["pillar_id"], theirs_task["pillarId"]],
            "groupBy": ["pillar,person", "customer,day"],
            "userId": [theirs.consultant.id],
            "timeBillId": [theirs.ids["bill_id"]],
            "startDate": ["2026-03-01"],
            "endDate": ["2026-03-31"],
            "lastSyncTimestamp": ["0", "2026-01-01T00:00:00Z", before],
            "actor": ["send_mail"],
            "queue": ["mail"],
            "fingerprint": ["0"],
            "q": [name],
            "since": ["2026-01-01T00:00:00Z"],
            "until": ["2100-01-01T00:00:00Z"],
        }
        stolen |= cursors(given.admin(), theirs, documented)
        people = {role: given.person(role, own.ids["customer_id"]) for role in ROLES}
        yield Secrets(theirs, own, texts, stolen, people)


def tenant_with_all_hours(given: Given) -> Tenant:
    made = tenant(given)
    admin, consultant = given.admin(), made.consultant
    task = consultant.get(f"/api/tasks/{made.ids['task_id']}")
    bill = given.bill(consultant, task, start="2026-03-03T09:00:00Z")
    consultant.patch(f"/api/time-bills/{bill['id']}", {"memo": f"By {consultant.email}"})
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": f"Not {consultant.email}'s"})
    given.bill(consultant, task, start="2026-03-04T09:00:00Z")
    running = given.task(consultant, {"id": task["customerId"]}, title=f"A firewall for {consultant.email}")
    given.logged(consultant, running, start="2026-03-05T09:00:00Z", notes=f"Asked {consultant.email}")
    consultant.put(f"/api/customers/{task['customerId']}/focus", {})
    consultant.post(f"/api/tasks/{running['id']}/start", {"notes": f"For {task['customerId']}"})
    given.settled()
    return made


def planted_trouble(given: Given, own: Tenant) -> str:
    """Writes a text on the customer's own approved bill that says what is wrong at the firm."""
    trouble = f"Set XERO_CLIENT_ID, {given.new_id()}"
    with given.stint.sql() as conn:
        conn.execute("UPDATE time_bills SET xero_error = %s WHERE id = %s", (trouble, own.ids["bill_id"]))
    assert given.admin().get(f"/api/time-bills/{own.ids['bill_id']}")["xero"]["error"] == trouble
    return trouble


def cursors(admin: Person, theirs: Tenant, documented: dict[str, Json]) -> dict[str, list[str]]:
    """Cursors of an admin's lists, by route: of the whole list, and of its changes."""
    found: dict[str, list[str]] = {}
    for route, operation in documented.items():
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        if "cursor" in names:
            pages: list[dict[str, Any]] = [
                {"limit": 1},
                *([{"limit": 1, "lastSyncTimestamp": "0"}] if "lastSyncTimestamp" in names else []),
            ]
            answers = [admin.get(theirs.path(route.partition(" ")[2]), **page) for page in pages]
            found[f"cursor of {route}"] = [answer["nextCursor"] for answer in answers if answer["nextCursor"]]
    assert all(len(found[f"cursor of GET /api/{noun}"]) for noun in ("customers", "tasks", "time-entries", "time-bills"))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_no_answer_contains_data_of_another_customer(role: str, secrets: Secrets, documented: dict[str, Json]) -> None:
    person, requests = secrets.people[role], 0
    for route, operation in documented.items():
        method, _, template = route.partition(" ")
        if method == "GET" and not TABLE[route].is_stream:
            for path in paths(template, secrets):
                for query in queries(route, operation, secrets, of=role):
                    assert_keeps_secrets(person.http.get(path, params=query), secrets, path, query)
                    requests += 1
    assert requests > 250


@pytest.mark.parametrize("role", ROLES)
def test_no_answer_to_a_body_contains_data_of_another_customer(role: str, secrets: Secrets) -> None:
    """The body contains ids of another customer, the path those of one's own."""
    person = secrets.people[role]
    for route, case in TABLE.items():
        method, _, template = route.partition(" ")
        if method != "GET" and template != "/auth/sign-out":  # which answers nothing, and would sign this person out
            for path in paths(template, secrets):
                body = with_ids(case.body, secrets.theirs.ids)
                assert_keeps_secrets(person.http.request(method, path, json=body or None), secrets, path, body)


@pytest.mark.parametrize("role", ROLES)
def test_no_live_event_contains_an_id_of_another_customer(
    role: str, secrets: Secrets, given: Given, stint: Installation
) -> None:
    task = secrets.own.consultant.get(f"/api/tasks/{secrets.own.ids['task_id']}")
    with subscribed(given.admin()) as admins_stream, subscribed(secrets.people[role]) as users_stream:
        with stint.sql() as conn, conn.transaction():
            touch(conn, ids_of(conn, secrets.theirs.ids["customer_id"]))
        wait_for_all_changes(given, secrets.own.consultant, task, admins_stream, users_stream)
        assert {row_id for _, row_id in admins_stream.events} & secrets.texts
        assert not {row_id for _, row_id in users_stream.events} & secrets.texts


def paths(template: str, secrets: Secrets) -> Iterator[str]:
    """The path with every mixture of both customers' ids."""
    names = parameters(template)
    for chosen in product((secrets.own.ids, secrets.theirs.ids), repeat=len(names)):
        yield filled(template, {name: ids[name] for name, ids in zip(names, chosen, strict=True)})


def queries(route: str, operation: Json, secrets: Secrets, *, of: str) -> Iterator[dict[str, str]]:
    """No parameter, each one, and a sample of the pairs, with every value that could find something, and with `enrich`."""
    known = [parameter for parameter in operation.get("parameters", []) if parameter["in"] == "query"]
    enrich = {"enrich": "true"} if any(parameter["name"] == "enrich" for parameter in known) else {}
    tried = {parameter["name"]: values(route, parameter, secrets) for parameter in known}
    yield {}
    for count in (0, 1, 2):
        chosen_names = list(combinations(sorted(set(tried) - set(enrich)), count))
        if count == 2:
            chosen_names = list(sample(chosen_names, crc32(f"{route} {of}".encode())))
        for names in chosen_names:
            for chosen in product(*(tried[name] for name in names)):
                yield dict(zip(names, chosen, strict=True)) | enrich


def values(route: str, parameter: Json, secrets: Secrets) -> list[str]:
    name, schema = parameter["name"], parameter["schema"]
    kinds = [kind.get("items", kind) for kind in schema.get("oneOf", [schema])]
    options = [option for kind in kinds for option in kind.get("enum", [])]
    if options:
        return [str(option) for option in options if option is not None]
    if name == "cursor":
        return secrets.stolen[f"cursor of {route}"]
    if schema.get("type") == "boolean":
        return ["true"]
    own_id = re.sub(r"(?=[A-Z])", "_", name).lower()  # customerId is customer_id in a path
    if name not in secrets.stolen and own_id in secrets.theirs.ids:
        return [secrets.theirs.ids[own_id]]
    if name not in secrets.stolen and schema.get("type") == "integer":
        return ["1"]
    assert name in secrets.stolen, f"{route}: no value for {name}; add values of the other customer to `stolen` in {__file__}"
    return secrets.stolen[name]


def assert_keeps_secrets(answer: httpx2.Response, secrets: Secrets, path: str, sent: dict[str, Any]) -> None:
    """An answer may repeat what the request contained, as in `there is no customer X`, but nothing else."""
    assert answer.status_code < 500, (path, sent, answer.text)
    text_of_answer = readable(answer)
    known = f"{path} {sent}"
    found = {text for text in secrets.texts if text in text_of_answer and text not in known}
    assert not found, f"the answer to {path} {sent} contains {found}"


def readable(answer: httpx2.Response) -> str:
    """An answer's headers and body, with decoded base64 texts, such as cursors."""
    text = f"{answer.headers.multi_items()} {answer.text}"
    return " ".join([text, *(decoded(word) for word in re.findall(r"[\w-]{16,}", text))])


def decoded(word: str) -> str:
    return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode(errors="ignore") if len(word) % 4 != 1 else ""
