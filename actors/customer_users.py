"""Reads and changes accounts at an identity provider outside. All calls may be repeated: at worst a user gets two mails."""

import logging

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.errors import Unavailable
from schemas.identity import user_pool
from schemas.identity.provider import identity_provider
from schemas.messages import ReadUserPool, RemindInvited, RemoveAccount
from schemas.settings import settings

logger = logging.getLogger(__name__)


@handles(RemindInvited, calls_out=True)
async def remind_invited(message: RemindInvited) -> None:
    """Asks the provider to send an invitation again."""
    await identity_provider(settings()).resend_invitation(message.email)


@handles(RemoveAccount, calls_out=True)
async def remove_account(message: RemoveAccount) -> None:
    """Deletes an account at the provider."""
    await identity_provider(settings()).delete(message.username)


@handles(ReadUserPool, calls_out=True)
async def read_user_pool(call: ExternalCall) -> None:
    """Reads all accounts of the provider and stores what has changed; then the message waits for the next reading. A provider
    that does not answer changes nothing."""
    current = settings()
    async with call.start() as (conn, _):
        reading = await user_pool.begin(conn)
        if not current.uses_external_identity:  # the setting was changed
            await user_pool.forget(conn)
            call.skip()
    try:
        async with call.timeout():
            await reading.read(await call.connection(), identity_provider(current))
    except (Unavailable, TimeoutError) as error:
        async with call.complete() as conn:
            await user_pool.record_failure(conn, error)
            call.reschedule(min(user_pool.AGAIN_SECONDS, current.stint_pool_seconds))
        return
    async with call.complete() as conn:
        lost = await reading.save(conn)
        call.reschedule(current.stint_pool_seconds)
    if lost:
        logger.warning("access ended, because the user pool disabled or deleted the accounts: count=%d", len(lost))
