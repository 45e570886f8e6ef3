"""Two customers and what belongs to them: the ids that paths are filled with, by the name that the paths give them."""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from tests.api.answers import Json
from tests.given import Given, Person
from tests.installation import eventually


@dataclass(frozen=True)
class Tenant:
    """A customer with one of everything that a path can name, and the consultant who works for it."""

    ids: dict[str, str]
    consultant: Person

    def path(self, template: str, **instead: str) -> str:
        """The path with this customer's ids, or those given instead."""
        return filled(template, self.ids | instead)


def tenant(given: Given) -> Tenant:
    """A new customer. A route with a parameter of a new name needs a value for it here: the id of something that is this
    customer's, in a state in which the table in test_roles.py may do to it what its line says."""
    admin, consultant = given.admin(), given.person()
    customer = given.customer(admin, xeroProjectId=given.new_id())  # of no Xero that is connected
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
    # the tests' Stint has no mail server, so what was to tell of the invitation is a dead letter
    dead = "SELECT id::text FROM messages WHERE state = 'dead' AND body->>'to' = %s"
    letter = given.stint.value(dead, invitation["email"])
    ids = {
        "letter_id": letter,
        "replay_id": ended_replay(admin, letter),
        "customer_id": customer["id"],
        "pillar_id": pillar["id"],  # that no bill refers to
        "task_id": task["id"],
        "entry_id": entry["id"],  # on the bill
        "bill_id": bill["id"],  # approved
        "job_id": job["id"],
        "user_id": user["id"],  # who has not come yet
        "project_id": customer["xeroProjectId"],
        "owner": consultant.id,
        "mapping_id": consultant.post("/api/slack/channel-mappings", channel)["id"],
        "channel_id": channel_id,  # without a mapping
    }
    return Tenant(ids, consultant)


def ended_replay(admin: Person, letter: str) -> str:
    """The letter died again: there still is no mail server."""
    replay = admin.post("/api/dead-letters/replay", {"select": {"ids": [letter]}, "reason": "hoping"}, status=202)
    eventually(lambda: admin.get(f"/api/dead-letters/replays/{replay['id']}")["failedAgain"] == 1)
    return str(replay["id"])


def parameters(template: str) -> list[str]:
    """The names in a path's braces."""
    return re.findall(r"\{(\w+)\}", template)


def filled(template: str, ids: dict[str, str]) -> str:
    """The text with ids for the names in braces; fails on a name that nobody knows a value for."""
    unknown = set(parameters(template)) - set(ids)
    assert not unknown, f"{template}: tests/api/tenants.py makes nothing that {unknown} could be; add it to tenant()"
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], template)


def with_ids(value: Any, ids: dict[str, str]) -> Any:
    """A body with ids for the names in braces, wherever they stand in it."""
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
