"""Routes that change the data of the stand-in for Xero: actions of people in Xero, for tests. stand_in.py lists them."""

import uuid
from collections.abc import Sequence

from ops.sandbox.http import Response
from ops.sandbox.xero.store import Json, Store


def control(store: Store, method: str, path: Sequence[str], body: Json) -> Response | None:
    """The answer, or None for an unknown route. Raises KeyError and TypeError for an invalid request."""
    tenant_id = body.get("tenantId") or next(iter(store.tenants))
    match method, path:
        case "GET", ["entries"]:
            return Response.json(200, list(store.entries.values()))
        case "POST", ["entries"]:
            entry = body | {"timeEntryId": str(uuid.uuid4())}
            store.write_entry(entry["timeEntryId"], entry)
            return Response.json(201, entry)
        case "PATCH", ["entries", entry_id]:
            store.write_entry(entry_id, store.entries[entry_id] | body)
        case "DELETE", ["entries", entry_id]:
            store.write_entry(entry_id, None)
        case "POST", ["tenants"]:
            return Response.json(201, {"tenantId": store.add_tenant(body["name"])})
        case "POST", ["projects"]:
            return Response.json(201, store.add_project(tenant_id, body["name"]))
        case "PATCH", ["projects", project_id]:
            store.projects[project_id].update(body)
        case "POST", ["projects", project_id, "tasks"]:
            charge_type, rate = body.get("chargeType", "TIME"), body.get("rate", 100)
            return Response.json(201, store.add_task(project_id, body["name"], charge_type=charge_type, rate=rate))
        case "POST", ["users"]:
            user = store.add_user(tenant_id, name=body["name"], email=body["email"], user_id=body.get("userId"))
            return Response.json(201, user)
        case "DELETE", ["users", user_id]:
            store.users[user_id]["removed"] = True
        case "PATCH", ["tasks", task_id]:
            store.tasks[task_id].update(body)
        case _:
            return None
    return Response(204)
