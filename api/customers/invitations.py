"""Inviting a customer's user: two transactions, with a call to the identity provider between them."""

from dataclasses import replace
from uuid import UUID

from api.dependencies import ApiRequest
from schemas.customers import customer_users
from schemas.customers.customer_users import CustomerUser, Invitation
from schemas.errors import NotFound
from schemas.identity import users
from schemas.identity.accounts import Account, EmailTaken, IdentityProvider, Profile
from schemas.messages import RemoveAccount
from schemas.outbox import outbox
from schemas.postgres.pool import Database


async def invite(request: ApiRequest, customer_id: UUID, data: Invitation) -> CustomerUser:
    """The person, invited by the sender of the request. Raises as `customer_users.prepare` does, and Unavailable while the
    identity provider does not answer: nobody was invited then."""
    async with request.database.transaction() as conn:
        profile = await customer_users.prepare(conn, customer_id, data, by=request.user)
    account = await _get_or_create_account(request.database, request.identity_provider, profile)
    try:
        async with request.database.transaction() as conn:
            return await customer_users.record_invitation(
                conn, customer_id, profile, account, by=request.user, settings=request.settings
            )
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
