"""Users of a customer: for the firm's own people, and for administrators of that very customer."""

from dataclasses import replace
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import sees_to_users
from api.dependencies import TheDatabase, TheIdentity, TheSettings, TheUser
from schemas import customer_users, ledger, users
from schemas.clients.identity import Identity, Person, Subject, Taken
from schemas.customer_users import CustomerUser, Invitation, InvitedBefore
from schemas.database import Database
from schemas.errors import NotFound
from schemas.listing import Page
from schemas.messages import RemoveAccount


@get("/api/customers/{customer_id:uuid}/users", summary="List a customer's users", guards=[sees_to_users])
async def list_customer_users(
    database: TheDatabase, user: TheUser, customer_id: FromPath[UUID], limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Listed[CustomerUser]]:
    """Who may see the customer's data, newest first; without those who were removed. For internal users, and administrators of
    that customer."""
    async with database.connection() as conn:
        page = Page(limit, page_cursor)
        return json_answer(await customer_users.list_page(conn, page, customer_id=customer_id, user=user))


@post("/api/customers/{customer_id:uuid}/users/invite", summary="Invite a customer's user", guards=[sees_to_users])
async def invite(
    database: TheDatabase,
    user: TheUser,
    identity: TheIdentity,
    settings: TheSettings,
    customer_id: FromPath[UUID],
    data: JSONBody[Invitation],
) -> CustomerUser:
    """Lets somebody in, and writes to them. 409 for an address that is a user of this customer already, and for internal users
    also for one that has another account; 429 with `Retry-After` for too many; 503 while the identity provider does not answer:
    then nobody was invited."""
    async with database.transaction() as conn:
        person = await customer_users.prepare(conn, customer_id, data, by=user)
    subject = await _account(database, identity, person)
    try:
        async with database.transaction() as conn:
            return await customer_users.settle(conn, customer_id, person, subject, by=user, settings=settings)
    except NotFound:  # the customer was deleted meanwhile, and with it whatever account somebody has for it
        if subject is not None and subject.username is not None:
            async with database.transaction() as conn:
                await ledger.put(conn, RemoveAccount(username=subject.username))
        raise


async def _account(database: Database, identity: Identity, person: Person) -> Subject | None:
    """An account for that person at the provider. None when somebody else has the address there."""
    try:
        return await identity.create(person)
    except Taken as taken:
        holder = taken.holder
    assert holder.username is not None
    async with database.connection() as conn:
        is_removed = await users.is_revoked(conn, holder.id)
    if is_removed:  # but not there yet, or with the whole of their customer
        await identity.remove(holder.username)
        try:
            return await identity.create(person)
        except Taken:  # by whoever invites the address at this very moment
            return None
    if holder.person.customer_id != person.customer_id or not users.is_a_customers(holder.person.role):
        return None
    # an invitation whose answer was lost, or that is being written down at this very moment
    await identity.correct(holder.username, person)
    return replace(holder, person=person)


@post(
    "/api/customers/{customer_id:uuid}/users/resend-invite",
    summary="Write to an invited user again",
    status_code=202,
    guards=[sees_to_users],
)
async def resend_invitation(
    database: TheDatabase, user: TheUser, settings: TheSettings, customer_id: FromPath[UUID], data: JSONBody[InvitedBefore]
) -> CustomerUser:
    """Sends the invitation again to somebody who has not come yet, named by `userId` or `email`: at most once a minute, else
    429 with `Retry-After`. 409 for one who has come."""
    async with database.transaction() as conn:
        return await customer_users.resend(conn, customer_id, data, by=user, settings=settings)


@delete("/api/customers/{customer_id:uuid}/users/{user_id:uuid}", summary="Remove a customer's user", guards=[sees_to_users])
async def remove_customer_user(
    database: TheDatabase, user: TheUser, settings: TheSettings, customer_id: FromPath[UUID], user_id: FromPath[UUID]
) -> None:
    """Takes the user's access away, from the next request on, whatever tokens they have. They can be invited again."""
    async with database.transaction() as conn:
        await customer_users.remove(conn, customer_id, user_id, by=user, settings=settings)
