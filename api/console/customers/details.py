"""One customer's first page, with its pillars; changing and deleting the customer."""

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_internal
from api.console.customers.listing import Details
from api.console.customers.shared import (
    BASE,
    MODES,
    ROUNDINGS,
    FormVersion,
    VersionForm,
    change_page,
    customer_path,
    read_customer,
    read_pillars,
)
from api.console.forms import Form, FormModel, read_form
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from schemas.base import Name
from schemas.customers import customers, deletion
from schemas.customers.customers import CustomerChange
from schemas.customers.deletion import Obstacle, References
from schemas.errors import Conflict


class ChangedDetails(Details):
    """What a customer becomes."""

    UNSEEN = frozenset({"version"})

    version: FormVersion


class NewPillarForm(FormModel):
    """A pillar to add."""

    name: Name


@get(f"{BASE}/{{customer_id:str}}", guards=[require_internal])
async def show_customer(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The customer's details and pillars."""
    return await overview(request, customer_id, Form[NewPillarForm]())


async def overview(request: ApiRequest, customer_id: UUID, form: Form[NewPillarForm], *, status: int = 200) -> Response[bytes]:
    """The page of `show_customer`, with the form of a new pillar."""
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user)
        found = await read_pillars(conn, customer_id, request.user)
    return page(request, "customers/overview.html", status=status, customer=customer, pillars=found, form=form)


@get(f"{BASE}/{{customer_id:str}}/edit", guards=[require_internal])
async def show_edit_customer(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The form of the customer's details, and its deletion."""
    return await _edit_page(request, customer_id)


@post(f"{BASE}/{{customer_id:str}}/edit", guards=[require_internal], status_code=303)
async def change_customer(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Writes the details, unless they have changed since they were shown."""
    form = await read_form(request, ChangedDetails)
    if form.value is not None:
        change = CustomerChange.model_validate(form.value.as_body() | {"version": form.value.version})
        with form.catching():
            async with request.database.transaction() as conn:
                changed = await customers.change(conn, customer_id, change)
            return redirect(customer_path(customer_id), f"Saved {changed.name}.")
    return await _edit_page(request, customer_id, form=form)


@post(f"{BASE}/{{customer_id:str}}/delete", guards=[require_internal], status_code=303)
async def delete_customer(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Deletes the customer, or shows what prevents it."""
    form, obstacles = await read_form(request, VersionForm), list[Obstacle]()
    if form.value is not None:
        with form.catching():
            try:
                async with request.database.transaction() as conn:
                    await customers.delete(conn, customer_id, version=form.value.version)
            except Conflict as refusal:
                obstacles = await find_obstacles(request, refusal)
                raise
            return redirect(BASE, "Deleted the customer. Its users can no longer sign in.")
    return await _edit_page(request, customer_id, removal=form, obstacles=obstacles)


async def find_obstacles(request: ApiRequest, refusal: Conflict) -> list[Obstacle]:
    """What prevents a deletion that was refused; nothing, if it was refused for another reason."""
    if "references" not in refusal.facts:
        return []
    async with request.database.connection() as conn:
        return await deletion.obstacles(conn, References.model_validate(refusal.facts["references"]))


async def _edit_page(request: ApiRequest, customer_id: UUID, **forms: Any) -> Response[bytes]:
    """With what `change_page` takes."""
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, forms.get("form"))
    return change_page(request, "customers/edit.html", customer=customer, roundings=ROUNDINGS, modes=MODES, **forms)
