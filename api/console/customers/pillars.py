"""Adding, changing and deleting pillars."""

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_internal
from api.console.customers.details import NewPillarForm, find_obstacles, overview
from api.console.customers.shared import BASE, FormVersion, VersionForm, change_page, customer_path, read_customer
from api.console.forms import FormModel, read_form
from api.console.gone import gone_if_missing
from api.console.pages import redirect
from api.dependencies import ApiRequest
from schemas.base import Name
from schemas.customers import pillars
from schemas.customers.deletion import Obstacle
from schemas.customers.pillars import NewPillar, Pillar, PillarChange
from schemas.errors import Conflict

PATH = f"{BASE}/{{customer_id:str}}/pillars"


class PillarForm(FormModel):
    """What a pillar becomes."""

    UNSEEN = frozenset({"version"})

    name: Name
    active: bool = False
    version: FormVersion


@post(PATH, guards=[require_internal], status_code=303)
async def add_pillar(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Adds a pillar."""
    form = await read_form(request, NewPillarForm)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                made = await pillars.create(conn, customer_id, NewPillar(name=form.value.name))
            return redirect(customer_path(customer_id), f"Added the pillar {made.name}.")
    return await overview(request, customer_id, form, status=422)


@get(f"{PATH}/{{pillar_id:str}}", guards=[require_internal])
async def show_pillar(request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID]) -> Response[bytes]:
    """The form of one pillar, and its deletion."""
    return await _pillar_page(request, customer_id, pillar_id)


@post(f"{PATH}/{{pillar_id:str}}", guards=[require_internal], status_code=303)
async def change_pillar(request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID]) -> Response[bytes]:
    """Writes the pillar, unless it has changed since it was shown."""
    form = await read_form(request, PillarForm)
    if form.value is not None:
        change = PillarChange.model_validate(form.value.model_dump())
        legacy = bool(request.settings.legacy_client_ids)
        with form.catching():
            async with request.database.transaction() as conn:
                changed = await pillars.change(
                    conn, customer_id, pillar_id, change, by=request.user, include_legacy_admins=legacy
                )
            return redirect(customer_path(customer_id), f"Saved the pillar {changed.name}.")
    return await _pillar_page(request, customer_id, pillar_id, form=form)


@post(f"{PATH}/{{pillar_id:str}}/delete", guards=[require_internal], status_code=303)
async def delete_pillar(request: ApiRequest, customer_id: FromPath[UUID], pillar_id: FromPath[UUID]) -> Response[bytes]:
    """Deletes the pillar, or shows what prevents it."""
    form, obstacles = await read_form(request, VersionForm), list[Obstacle]()
    if form.value is not None:
        with form.catching():
            try:
                async with request.database.transaction() as conn:
                    await pillars.delete(conn, customer_id, pillar_id, version=form.value.version, by=request.user)
            except Conflict as refusal:
                obstacles = await find_obstacles(request, refusal)
                raise
            return redirect(customer_path(customer_id), "Deleted the pillar. Its tasks are now in the default pillar.")
    return await _pillar_page(request, customer_id, pillar_id, removal=form, obstacles=obstacles)


async def _pillar_page(request: ApiRequest, customer_id: UUID, pillar_id: UUID, **forms: Any) -> Response[bytes]:
    """With what `change_page` takes."""
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, forms.get("form"))
        with gone_if_missing("pillar", customer_path(customer_id), "the customer", forms.get("form")):
            pillar = Pillar.from_json(await pillars.get(conn, customer_id, pillar_id, user=request.user))
    if pillar.is_default and (form := forms.get("form")) is not None:
        form.leave_out("active")  # its page has no box for it
    return change_page(request, "customers/pillar.html", customer=customer, pillar=pillar, **forms)
