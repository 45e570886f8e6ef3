"""Routes for the users of a customer: for the firm's own people and the administrators of that customer."""

from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody

from api.auth.auth import ENDS_ACCESS, require_user_manager
from api.customers import invitations
from api.dependencies import ApiRequest, ThePage
from api.http.responses import Listed, OfUser, created, json_response, user_in_path
from schemas.customers import customer_users
from schemas.customers.customer_users import CustomerUser, Invitation, ResendInvitation


@get("/api/customers/{customer_id:str}/users", summary="List a customer's users", guards=[require_user_manager])
async def list_customer_users(
    request: ApiRequest, customer_id: FromPath[UUID], page: ThePage
) -> Response[Listed[CustomerUser]]:
    """The users who may see the customer's data, newest first, without removed ones. For internal users and administrators of
    that customer."""
    async with request.database.connection() as conn:
        return json_response(await customer_users.list_page(conn, page, customer_id=customer_id, user=request.user))


@post("/api/customers/{customer_id:str}/users/invite", summary="Invite a customer's user", guards=[require_user_manager])
async def invite(request: ApiRequest, customer_id: FromPath[UUID], data: JSONBody[Invitation]) -> Response[CustomerUser]:
    """Gives a person access to the customer's data, and sends an invitation by mail.

    - 409: the address is already a user of this customer. Internal users also get it for an address with another account.
    - 429 with `Retry-After`: there were too many invitations.
    - 503: the identity provider does not answer, so nobody was invited."""
    invited = await invitations.invite(request, customer_id, data)
    return created(invited, f"/api/customers/{customer_id}/users/{invited.id}")


@post(
    "/api/customers/{customer_id:str}/users/resend-invite",
    summary="Send an invitation again",
    status_code=202,
    guards=[require_user_manager],
)
async def resend_invitation(request: ApiRequest, customer_id: FromPath[UUID], data: JSONBody[ResendInvitation]) -> CustomerUser:
    """Sends the invitation again to a user who has not signed in yet. Send the `userId` or the `email`. It is sent at most once
    a minute; more often is 429 with `Retry-After`. 409 if the user has signed in."""
    async with request.database.transaction() as conn:
        return await customer_users.resend(conn, customer_id, data, by=request.user, settings=request.settings)


@delete(
    "/api/customers/{customer_id:str}/users/{user_id:str}",
    summary="Remove a customer's user",
    opt={ENDS_ACCESS: True},  # also that of the administrator of a customer who sends the request
    guards=[require_user_manager],
)
async def remove_customer_user(request: ApiRequest, customer_id: FromPath[UUID], user_id: OfUser) -> None:
    """Revokes the user's access from the next request on, also for tokens that are still valid. The user can be invited
    again."""
    removed_id = user_in_path(user_id)
    async with request.database.transaction() as conn:
        await customer_users.remove(conn, customer_id, removed_id, by=request.user, settings=request.settings)
