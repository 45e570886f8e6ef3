"""Orders about the stand-in's book: what people do in Xero, and what tests need there. Listed in xero.py."""

from collections.abc import Sequence

from ops.sandbox.http import Answer
from ops.sandbox.xero_book import Book, Json


def obey(book: Book, method: str, path: Sequence[str], body: Json) -> Answer | None:
    """None for what is no order about the book. Raises KeyError and TypeError for one that makes no sense."""
    tenant_id = body.get("tenantId") or next(iter(book.tenants))
    match method, path:
        case "GET", ["entries"]:
            return Answer.json(200, list(book.entries.values()))
        case "PATCH", ["entries", entry_id]:
            book.entries[entry_id].update(body)
        case "DELETE", ["entries", entry_id]:
            del book.entries[entry_id]
        case "POST", ["tenants"]:
            return Answer.json(201, {"tenantId": book.add_tenant(body["name"])})
        case "POST", ["projects"]:
            return Answer.json(201, book.add_project(tenant_id, body["name"]))
        case "PATCH", ["projects", project_id]:
            book.projects[project_id].update(body)
        case "POST", ["projects", project_id, "tasks"]:
            charge_type, rate = body.get("chargeType", "TIME"), body.get("rate", 100)
            return Answer.json(201, book.add_task(project_id, body["name"], charge_type=charge_type, rate=rate))
        case "POST", ["users"]:
            return Answer.json(201, book.add_user(tenant_id, name=body["name"], email=body["email"]))
        case _:
            return None
    return Answer(204)
