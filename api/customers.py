"""Customers."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.answers import Changed, Cursor, LastSync, Limit, SeenVersion, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import customers
from schemas.customers import Customer, CustomerChange, NewCustomer
from schemas.listing import Page


@get("/api/customers", summary="List customers")
async def list_customers(
    database: TheDatabase, user: TheUser, since: LastSync = None, limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Changed[Customer]]:
    """Customers, newest first. A customer's users see their own. With `lastSyncTimestamp` instead those that changed since, in
    that order; one that is deleted as `{"id", "deleted": true}`."""
    async with database.connection() as conn:
        return json_answer(await customers.list_page(conn, Page(limit, page_cursor, since), user=user))


@post("/api/customers", summary="Create a customer", guards=[internal])
async def create_customer(database: TheDatabase, user: TheUser, data: JSONBody[NewCustomer]) -> Customer:
    """Creates a customer together with its default pillar, "General Support". With an `id` of your own, repeating the request
    gives the same answer."""
    async with database.transaction() as conn:
        return await customers.create(conn, data, by=user)


@get("/api/customers/{customer_id:uuid}", summary="Read a customer")
async def get_customer(database: TheDatabase, user: TheUser, customer_id: FromPath[UUID]) -> Response[Customer]:
    """One customer."""
    async with database.connection() as conn:
        return json_answer(await customers.get(conn, customer_id, user=user))


@put("/api/customers/{customer_id:uuid}", summary="Update a customer", guards=[internal])
async def change_customer(database: TheDatabase, customer_id: FromPath[UUID], data: JSONBody[CustomerChange]) -> Customer:
    """Writes the fields that are sent. A time bill keeps the rounding rule that it was opened with; those opened from now on
    follow the new one. A stale `version` is 409 with `current`."""
    async with database.transaction() as conn:
        return await customers.change(conn, customer_id, data)


@delete("/api/customers/{customer_id:uuid}", summary="Delete a customer", guards=[internal])
async def delete_customer(database: TheDatabase, customer_id: FromPath[UUID], version: SeenVersion = None) -> None:
    """Deletes the customer with its tasks and pillars, and takes away its users' access at once. 409 with `references` while
    time bills with entries, entries without a bill, a running timer or an unfinished stop refer to it."""
    async with database.transaction() as conn:
        await customers.delete(conn, customer_id, version=version)
