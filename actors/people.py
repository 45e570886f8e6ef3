"""What happens behind the queue to people whose accounts are kept outside: both can be done twice without harm but a mail."""

from actors.calling import CallOut
from actors.deliveries import handles
from schemas.clients.identity import identity
from schemas.messages import RemindInvited, RemoveAccount
from schemas.settings import settings


@handles(RemindInvited, calls_out=True)
async def remind_invited(work: CallOut) -> None:
    """Has the provider write once more to somebody who was invited."""
    async with work.begin() as (_, message):
        invited: RemindInvited = message
    async with work.calling():
        await identity(settings()).remind(invited.email)
    async with work.settle():
        pass


@handles(RemoveAccount, calls_out=True)
async def remove_account(work: CallOut) -> None:
    """Takes an account away at the provider."""
    async with work.begin() as (_, message):
        removed: RemoveAccount = message
    async with work.calling():
        await identity(settings()).remove(removed.username)
    async with work.settle():
        pass
