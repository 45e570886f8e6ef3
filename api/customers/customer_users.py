"""Routes for the users of a customer: for the firm's own people and the administrators of that customer."""

from dataclasses import replace
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody

from api.auth.auth import ENDS_ACCESS, require_user_manager
from api.dependencies import ApiRequest, ThePage
from api.http.responses import Listed, OfUser, created, json_response, user_in_path
from schemas.customers import customer_users
from schemas.customers.customer_users import CustomerUser, Invitation, ResendInvitation
from schemas.errors import NotFound
from schemas.identity import users
from schemas.identity.accounts import Account, EmailTaken, IdentityProvider, Profile
from schemas.messages import RemoveAccount
from schemas.outbox import outbox
from schemas.postgres.pool import Database


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
    """Gives a person access to the customer's data, and sends an invitation by mail. 409 for an address that is already a user
    of this customer, and for internal users also for one that has another account; 429 with `Retry-After` after too many
    invitations; 503 while the identity provider does not answer: nobody was invited then."""
    async with request.database.transaction() as conn:
        profile = await customer_users.prepare(conn, customer_id, data, by=request.user)
    account = await _get_or_create_account(request.database, request.identity_provider, profile)
    try:
        async with request.database.transaction() as conn:
            invited = await customer_users.record_invitation(
                conn, customer_id, profile, account, by=request.user, settings=request.settings
            )
        return created(invited, f"/api/customers/{customer_id}/users/{invited.id}")
    except NotFound:  # the customer was deleted meanwhile: its users' accounts have to go, too
        if account is not None and account.username is not None:
            async with request.database.transaction() as conn:
                await outbox.enqueue(conn, RemoveAccount(username=account.username))
        raise


async def _get_or_create_account(database: Database, provider: IdentityProvider, profile: Profile) -> Account | None:
    """The profile's account at the provider. None when the address has an account that is not a user's of this customer."""
    try:
        return await provider.create(profile)
    except EmailTaken as taken:
        account = taken.account
    assert account.username is not None
    async with database.connection() as conn:
        is_removed = await users.is_revoked(conn, account.id)
    if is_removed:  # in Stint, but not at the provider yet
        await provider.delete(account.username)
        try:
            return await provider.create(profile)
        except EmailTaken:  # a concurrent invitation of the same address was faster
            return None
    if account.profile.customer_id != profile.customer_id or not users.is_customer_role(account.profile.role):
        return None
    # an earlier invitation whose answer was lost, or a concurrent one that is not recorded yet
    await provider.update(account.username, profile)
    return replace(account, profile=profile)


@post(
    "/api/customers/{customer_id:str}/users/resend-invite",
    summary="Send an invitation again",
    status_code=202,
    guards=[require_user_manager],
)
async def resend_invitation(request: ApiRequest, customer_id: FromPath[UUID], data: JSONBody[ResendInvitation]) -> CustomerUser:
    """Sends the invitation again to a user who has not signed in yet, given by `userId` or `email`: at most once a minute, else
    429 with `Retry-After`. 409 if the user has signed in."""
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
