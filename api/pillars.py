"""Pillars: the areas of work agreed with a customer."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.answers import Cursor, Limit, Listed, SeenVersion, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheSettings, TheUser
from schemas import pillars
from schemas.listing import Page
from schemas.pillars import NewPillar, Pillar, PillarChange
from schemas.settings import listed


@get("/api/customers/{customer_id:uuid}/pillars", summary="List a customer's pillars")
async def list_pillars(
    database: TheDatabase, user: TheUser, customer_id: FromPath[UUID], limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Listed[Pillar]]:
    """The customer's pillars, inactive ones too, newest first. A customer's users see their own customer's."""
    async with database.connection() as conn:
        return json_answer(await pillars.list_page(conn, customer_id, Page(limit, page_cursor), user=user))


@post("/api/customers/{customer_id:uuid}/pillars", summary="Create a pillar", guards=[internal])
async def create_pillar(database: TheDatabase, customer_id: FromPath[UUID], data: JSONBody[NewPillar]) -> Pillar:
    """Creates a pillar. A name that another of the customer's pillars has, in any case, is 409 with that one's `pillarId`. With
    an `id` of your own, repeating the request gives the same answer."""
    async with database.transaction() as conn:
        return await pillars.create(conn, customer_id, data)


@get("/api/customers/{customer_id:uuid}/pillars/{pillar_id:uuid}", summary="Read a pillar")
async def get_pillar(
    database: TheDatabase, user: TheUser, customer_id: FromPath[UUID], pillar_id: FromPath[UUID]
) -> Response[Pillar]:
    """One pillar."""
    async with database.connection() as conn:
        return json_answer(await pillars.get(conn, customer_id, pillar_id, user=user))


@put("/api/customers/{customer_id:uuid}/pillars/{pillar_id:uuid}", summary="Update a pillar", guards=[internal])
async def change_pillar(
    database: TheDatabase,
    settings: TheSettings,
    user: TheUser,
    customer_id: FromPath[UUID],
    pillar_id: FromPath[UUID],
    data: JSONBody[PillarChange],
) -> Pillar:
    """Writes the fields that are sent. Making a pillar inactive tells each of the firm's own people by mail; no new tasks are
    put on it, those that are there stay, and go on. The default pillar may be renamed, but stays active: 409. A stale `version`
    is 409 with `current`, a name that is taken 409 with the other's `pillarId`."""
    async with database.transaction() as conn:
        legacy = settings.legacy_unset_role == "on" and bool(listed(settings.internal_client_ids))
        return await pillars.change(conn, customer_id, pillar_id, data, by=user, legacy=legacy)


@delete("/api/customers/{customer_id:uuid}/pillars/{pillar_id:uuid}", summary="Delete a pillar", guards=[internal])
async def delete_pillar(
    database: TheDatabase,
    user: TheUser,
    customer_id: FromPath[UUID],
    pillar_id: FromPath[UUID],
    version: SeenVersion = None,
) -> None:
    """Deletes the pillar; its tasks move to the customer's default pillar, which itself can't be deleted. 409 with `references`
    while time bills with entries, entries without a bill, a running timer or an unfinished stop refer to it."""
    async with database.transaction() as conn:
        await pillars.delete(conn, customer_id, pillar_id, version=version, by=user)
