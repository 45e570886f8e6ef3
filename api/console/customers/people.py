"""The people of a customer: who has access, inviting, sending the invitation again, removing."""

from typing import Annotated, Literal
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import Field

from api.auth.auth import require_internal
from api.console.customers.shared import BASE, customer_path, read_customer
from api.console.forms import Form, FormModel, read_form, valid_query
from api.console.pages import page, redirect
from api.customers import invitations
from api.dependencies import ApiRequest
from api.http.responses import Listed
from schemas.customers import customer_users
from schemas.customers.customer_users import CustomerUser, Invitation, PersonName, ResendInvitation
from schemas.email_addresses import Email
from schemas.errors import Conflict, NotFound, RateLimited
from schemas.postgres.listing import Page

PATH = f"{BASE}/{{customer_id:str}}/people"
PAGE_SIZE = 100
ROLES = [("customer_user", "may see the approved hours"), ("customer_admin", "may also invite and remove people")]


class PeopleFilter(FormModel):
    """The page of the list."""

    cursor: Annotated[str, Field(max_length=1_000)] | None = None


class InvitationForm(FormModel):
    """The person to invite."""

    email: Email
    name: PersonName
    role: Literal["customer_user", "customer_admin"] = "customer_user"


@get(PATH, guards=[require_internal])
async def show_people(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Who has access, and the form of an invitation."""
    return await _people_page(request, customer_id, Form())


@post(PATH, guards=[require_internal], status_code=303)
async def invite(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Invites a person by mail."""
    form = await read_form(request, InvitationForm)
    if form.value is not None:
        with form.catching():
            invited = await invitations.invite(request, customer_id, Invitation.model_validate(form.value.model_dump()))
            return redirect(customer_path(customer_id, "/people"), f"Invited {invited.name}. A mail goes to {invited.email}.")
    return await _people_page(request, customer_id, form, status=422)


@post(f"{PATH}/{{user_id:str}}/resend", guards=[require_internal], status_code=303)
async def resend_invitation(request: ApiRequest, customer_id: FromPath[UUID], user_id: FromPath[UUID]) -> Response[bytes]:
    """Sends the invitation again, at most once a minute."""
    path, again = customer_path(customer_id, "/people"), ResendInvitation.model_validate({"userId": str(user_id)})
    try:
        async with request.database.transaction() as conn:
            invited = await customer_users.resend(conn, customer_id, again, by=request.user, settings=request.settings)
    except (Conflict, NotFound, RateLimited) as refusal:
        return redirect(path, refusal.detail, kind="warning")
    return redirect(path, f"A mail goes to {invited.email} again.")


@post(f"{PATH}/{{user_id:str}}/remove", guards=[require_internal], status_code=303)
async def remove(request: ApiRequest, customer_id: FromPath[UUID], user_id: FromPath[UUID]) -> Response[bytes]:
    """Ends the person's access. It is no error if somebody else has just done so."""
    path = customer_path(customer_id, "/people")
    try:
        async with request.database.transaction() as conn:
            await customer_users.remove(conn, customer_id, user_id, by=request.user, settings=request.settings)
    except NotFound:
        return redirect(path, "This person has no access any more.", kind="warning")
    return redirect(path, "Removed the person. Their access has ended.")


async def _people_page(
    request: ApiRequest, customer_id: UUID, form: Form[InvitationForm], *, status: int = 200
) -> Response[bytes]:
    cursor = valid_query(request, PeopleFilter).cursor
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, form)
        answer = await customer_users.list_page(conn, Page(PAGE_SIZE, cursor), customer_id=customer_id, user=request.user)
    listed = Listed[CustomerUser].model_validate_json(answer)
    values = {"customer": customer, "people": listed.items, "next_cursor": listed.next_cursor, "roles": ROLES}
    return page(request, "customers/people.html", status=status, form=form, **values)
