"""Customers with one row of everything, and their ids by the name of the path parameter."""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import eventually


@dataclass(frozen=True)
class Tenant:
    """A customer with one row for each path parameter, and the consultant who works for it."""

    ids: dict[str, str]
    consultant: Person

    def path(self, template: str, **instead: str) -> str:
        """The path with this customer's ids, or with those of `instead`."""
        return filled(template, self.ids | instead)


def tenant(given: Given) -> Tenant:
    """A new customer. A route with a new path parameter needs a value for it here: the id of a row of this customer, in a state
    that gives the status of the route in tests/api/table.py."""
    admin, consultant = given.admin(), given.person()
    customer = given.customer(admin, xeroProjectId=given.new_id())  # Xero is not connected
    task = given.task(admin, customer)
    bill = given.approved_bill(consultant, admin, task)
    entry = consultant.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    job = admin.post("/api/time-bills/recompute", {"dryRun": True, "customerId": customer["id"]}, status=202)
    channel_id = f"C{secrets.token_hex(5).upper()}"
    pillar = consultant.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting", "slackChannelId": channel_id})
    channel = {"channelId": f"{channel_id}A", "channelName": "acme", "customerId": customer["id"]}
    invitation = {"email": f"{given.new_id()}@tenant.example", "name": "Ida"}
    user = consultant.post(f"/api/customers/{customer['id']}/users/invite", invitation)
    given.settled()
    # there is no mail server, so the mail of the invitation is a dead letter
    dead = "SELECT id::text FROM messages WHERE state = 'dead' AND body->>'to' = %s"
    dead_letter = given.stint.value(dead, invitation["email"])
    ids = {
        "letter_id": dead_letter,
        "replay_id": ended_replay(admin, dead_letter),
        "customer_id": customer["id"],
        "pillar_id": pillar["id"],  # without bills
        "task_id": task["id"],
        "entry_id": entry["id"],  # on the bill
        "bill_id": bill["id"],  # approved
        "job_id": job["id"],
        "user_id": user["id"],  # has not signed in yet
        "project_id": customer["xeroProjectId"],
        "owner": consultant.id,
        "mapping_id": consultant.post("/api/slack/channel-mappings", channel)["id"],
        "channel_id": channel_id,  # without a mapping
    }
    return Tenant(ids, consultant)


def ended_replay(admin: Person, dead_letter: str) -> str:
    """A replay that has ended: the dead letter failed again, because there is still no mail server."""
    replay = admin.post("/api/dead-letters/replay", {"select": {"ids": [dead_letter]}, "reason": "another try"}, status=202)
    eventually(lambda: admin.get(f"/api/dead-letters/replays/{replay['id']}")["failedAgain"] == 1)
    return str(replay["id"])


def parameters(template: str) -> list[str]:
    """The names in a path's braces."""
    return re.findall(r"\{(\w+)\}", template)


def filled(template: str, ids: dict[str, str]) -> str:
    """The text with ids for the names in braces; fails on an unknown name."""
    unknown = set(parameters(template)) - set(ids)
    assert not unknown, f"{template}: no value for {unknown}; add one to tenant() in tests/api/tenants.py"
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], template)


def with_ids(value: Any, ids: dict[str, str]) -> Any:
    """A body with ids for the names in braces, at any depth."""
    match value:
        case str():
            return filled(value, ids)
        case dict():
            return {name: with_ids(item, ids) for name, item in value.items()}
        case list():
            return [with_ids(item, ids) for item in value]
        case _:
            return value


def operations(document: Json) -> dict[str, Json]:
    """Every operation of an OpenAPI document, by "METHOD /path"."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict) and "responses" in operation
    }
