"""Customers."""

from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import customers
from schemas.customers import Customer, NewCustomer
from schemas.listing import Page


@get("/api/customers", summary="List customers")
async def list_customers(
    database: TheDatabase, user: TheUser, limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Listed[Customer]]:
    """Customers, newest first. A customer's users see their own."""
    async with database.connection() as conn:
        return json_answer(await customers.list_page(conn, Page(limit, page_cursor), user=user))


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
