"""Routes for pillars: the areas of work agreed with a customer."""

from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.responses import Listed, SeenVersion, created, json_response, warning
from schemas.customers import pillars, xero_mapping
from schemas.customers.pillars import NewPillar, Pillar, PillarChange
from schemas.xero import choices


@get("/api/customers/{customer_id:str}/pillars", summary="List a customer's pillars")
async def list_pillars(request: ApiRequest, customer_id: FromPath[UUID], page: ThePage) -> Response[Listed[Pillar]]:
    """The customer's pillars, newest first, with inactive ones. A customer's users see only those of their own customer."""
    async with request.database.connection() as conn:
        return json_response(await pillars.list_page(conn, customer_id, page, user=request.user))


@post("/api/customers/{customer_id:str}/pillars", summary="Create a pillar", guards=[require_internal])
async def create_pillar(request: ApiRequest, customer_id: FromPath[UUID], data: JSONBody[NewPillar]) -> Response[Pillar]:
    """Creates a pillar. A name that another of the customer's pillars has, in any case, is 409 with the `pillarId` of that
    one. If you choose the `id`, repeating the request gives the same answer. Its `xeroTaskId` is checked in Xero: 422 if bills
    could not be sent for it."""
    async with request.database.connection() as conn:
        mapping = await xero_mapping.of_pillar(conn, customer_id, data.id, data.xero_task_id)
    warnings = await choices.check_mapping(request.database, request.settings, mapping)
    async with request.database.transaction() as conn:
        pillar = await pillars.create(conn, customer_id, data)
    return created(pillar, f"/api/customers/{customer_id}/pillars/{pillar.id}", warning(warnings))


@get("/api/customers/{customer_id:str}/pillars/{pillar_id:str}", summary="Read a pillar")
async def get_pillar(request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID]) -> Response[Pillar]:
    """One pillar."""
    async with request.database.connection() as conn:
        return json_response(await pillars.get(conn, customer_id, pillar_id, user=request.user))


@put("/api/customers/{customer_id:str}/pillars/{pillar_id:str}", summary="Update a pillar", guards=[require_internal])
async def change_pillar(
    request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID], data: JSONBody[PillarChange]
) -> Response[Pillar]:
    """Writes the fields that you send. Making a pillar inactive sends a mail to each of the firm's own people; the pillar takes
    no new tasks, and existing ones stay. The default pillar may be renamed, but not made inactive: 409. A stale `version` is
    409 with `current`, a name of another pillar 409 with its `pillarId`. A new `xeroTaskId` is checked in Xero: 422 if bills
    could not be sent for it."""
    async with request.database.connection() as conn:
        mapping = await xero_mapping.of_pillar(conn, customer_id, pillar_id, data.xero_task_id)
    warnings = await choices.check_mapping(request.database, request.settings, mapping)
    async with request.database.transaction() as conn:
        pillar = await pillars.change(
            conn, customer_id, pillar_id, data, by=request.user, include_legacy_admins=bool(request.settings.legacy_client_ids)
        )
    return Response(pillar, headers=warning(warnings))


@delete("/api/customers/{customer_id:str}/pillars/{pillar_id:str}", summary="Delete a pillar", guards=[require_internal])
async def delete_pillar(
    request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID], version: SeenVersion = None
) -> None:
    """Deletes the pillar; its tasks move to the customer's default pillar, which itself can't be deleted. 409 with `references`
    while time bills with entries, entries without a bill, a running timer or an unfinished stop refer to it."""
    async with request.database.transaction() as conn:
        await pillars.delete(conn, customer_id, pillar_id, version=version, by=request.user)
