"""Routes for customers."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.auth.auth import require_internal
from api.dependencies import ApiRequest
from api.http.responses import Changed, Cursor, LastSync, Limit, SeenVersion, created, json_response, warning
from schemas.customers import customers, pillars, xero_mapping
from schemas.customers.customers import Customer, CustomerChange, NewCustomer
from schemas.customers.pillars import PillarChange
from schemas.postgres.listing import Page
from schemas.xero import choices


@get("/api/customers", summary="List customers")
async def list_customers(
    request: ApiRequest, since: LastSync = None, limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Changed[Customer]]:
    """Customers, newest first. A customer's users see only their own.

    With `lastSyncTimestamp`: the customers that have changed since, in the order of the changes. A deleted one is
    `{"id", "deleted": true}`."""
    async with request.database.connection() as conn:
        return json_response(await customers.list_page(conn, Page(limit, page_cursor, since), user=request.user))


@post("/api/customers", summary="Create a customer", guards=[require_internal])
async def create_customer(request: ApiRequest, data: JSONBody[NewCustomer]) -> Response[Customer]:
    """Creates a customer together with its default pillar, "General Support". If you choose the `id`, repeating the request
    gives the same answer. Its `xeroProjectId` is checked in Xero: 422 if bills could not be sent to it."""
    async with request.database.connection() as conn:
        mapping = await xero_mapping.of_new_customer(conn, data)
    warnings = await choices.check_mapping(request.database, request.settings, mapping)
    async with request.database.transaction() as conn:
        customer = await customers.create(conn, data, by=request.user)
    return created(customer, f"/api/customers/{customer.id}", warning(warnings))


@get("/api/customers/{customer_id:str}", summary="Read a customer")
async def get_customer(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[Customer]:
    """One customer."""
    async with request.database.connection() as conn:
        return json_response(await customers.get(conn, customer_id, user=request.user))


@put("/api/customers/{customer_id:str}", summary="Update a customer", guards=[require_internal])
async def change_customer(
    request: ApiRequest, customer_id: FromPath[UUID], data: JSONBody[CustomerChange]
) -> Response[Customer]:
    """Writes the fields that you send. A stale `version` is 409 with `current`.

    Each time bill keeps the rounding rule that it was opened with. New bills use the new rule.

    `pillars` maps pillars to tasks of the project, in the same transaction. What is new in a mapping is checked in Xero: 422 if
    bills could not be sent with it."""
    customer, warnings = await write_change(request, customer_id, data)
    return Response(customer, headers=warning(warnings))


@delete("/api/customers/{customer_id:str}", summary="Delete a customer", guards=[require_internal])
async def delete_customer(request: ApiRequest, customer_id: FromPath[UUID], version: SeenVersion = None) -> None:
    """Deletes the customer with its tasks and pillars, and revokes its users' access immediately.

    409 with `references` while hours refer to it: time bills with entries, entries without a bill, a running timer or an
    unfinished stop."""
    async with request.database.transaction() as conn:
        await customers.delete(conn, customer_id, version=version)


async def write_change(request: ApiRequest, customer_id: UUID, data: CustomerChange) -> tuple[Customer, list[str]]:
    """Writes the change. Returns the customer, and the warnings of the check of its mapping in Xero.

    Raises Invalid if bills could not be sent with the new mapping. Raises as `customers.change` and `pillars.change` do.
    """
    async with request.database.connection() as conn:
        mapping = await xero_mapping.of_customer(conn, customer_id, data)
    warnings = await choices.check_mapping(request.database, request.settings, mapping)
    async with request.database.transaction() as conn:
        customer = await customers.change(conn, customer_id, data)
        for pillar in data.pillars or []:
            change = PillarChange.model_validate({"xeroTaskId": pillar.xero_task_id})
            await pillars.change(conn, customer_id, pillar.id, change, by=request.user, include_legacy_admins=False)
    return customer, warnings
