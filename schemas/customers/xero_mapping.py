"""What a request maps to Xero, for the check before it is written (schemas/xero/choices.py).

A form may send all its fields. What stays as it is needs no check.
"""

from dataclasses import dataclass, field
from uuid import UUID

from schemas.customers.customers import CustomerChange, NewCustomer
from schemas.postgres.connection import Connection


@dataclass(frozen=True)
class Mapping:
    """A mapping that is about to be written."""

    project_id: str | None  # of the customer
    is_new_project: bool = False  # whether it is another project than before
    new_tasks: dict[str, str] = field(default_factory=dict)  # by the path of the field: the task that a pillar gets
    kept_tasks: dict[str, str] = field(default_factory=dict)  # by the pillar's name: the task that it keeps


async def of_new_customer(conn: Connection, body: NewCustomer) -> Mapping:
    """The mapping of a customer that is created. A request that is repeated has no new project, so nothing is checked."""
    exists = body.id and await conn.maybe("SELECT 1 FROM customers WHERE id = %s", (body.id,))
    return Mapping(body.xero_project_id, is_new_project=body.xero_project_id is not None and not exists)


async def of_customer(conn: Connection, customer_id: UUID, patch: CustomerChange) -> Mapping:
    """The mapping of a customer and its pillars after the change."""
    if not patch.model_fields_set & {"xero_project_id", "pillars"}:
        return Mapping(None)
    before = await _project_of(conn, customer_id)
    project_id = patch.xero_project_id if "xero_project_id" in patch.model_fields_set else before
    is_new_project = project_id is not None and project_id != before
    pillars = await conn.all(
        "SELECT id, name, xero_task_id FROM pillars WHERE customer_id = %s AND deleted_at IS NULL ORDER BY name, id",
        (customer_id,),
    )
    tasks_before = {pillar_id: task_id for pillar_id, _, task_id in pillars}
    mapping = Mapping(project_id, is_new_project)
    sent = patch.pillars or []
    for number, pillar in enumerate(sent):
        task_id = pillar.xero_task_id
        if task_id and (is_new_project or task_id != tasks_before.get(pillar.id)):
            mapping.new_tasks[f"pillars.{number}.xeroTaskId"] = task_id
    sent_ids = {pillar.id for pillar in sent}
    for pillar_id, name, task_id in pillars:
        if task_id and pillar_id not in sent_ids:
            mapping.kept_tasks[name] = task_id
    return mapping


async def of_pillar(conn: Connection, customer_id: UUID, pillar_id: UUID | None, task_id: str | None) -> Mapping:
    """The mapping of one pillar, which may be a new one."""
    before = pillar_id and await conn.value("SELECT xero_task_id FROM pillars WHERE id = %s", (pillar_id,))
    is_new = task_id is not None and task_id != before
    return Mapping(await _project_of(conn, customer_id), new_tasks={"xeroTaskId": task_id} if task_id and is_new else {})


async def _project_of(conn: Connection, customer_id: UUID) -> str | None:
    found: str | None = await conn.value("SELECT xero_project_id FROM customers WHERE id = %s", (customer_id,))
    return found
