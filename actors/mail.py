"""Sends mail. After a lost response the mail is sent again, because SMTP cannot tell whether it arrived."""

import logging

from actors.runtime import server_watch
from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.identity import sign_in_codes
from schemas.mail import smtp
from schemas.messages import SendCode, SendMail
from schemas.settings import settings

logger = logging.getLogger(__name__)


@handles(SendMail, calls_out=True)
async def send_mail(message: SendMail, call: ExternalCall) -> None:
    """Sends one mail to its one recipient."""
    await _deliver(message, call)


@handles(SendCode, calls_out=True)
async def send_code(call: ExternalCall) -> None:
    """Creates a sign-in code and sends it, if the address has a user and the request is not too old."""
    async with call.start() as (conn, message):
        mail = await sign_in_codes.issue_code(conn, message, secret_key=settings().secret_key.get_secret_value())
        if mail is None:
            call.skip()
    # only for the type checker: after `skip`, the end of the block raised AlreadySettled
    assert mail is not None
    async with call.timeout():
        await _deliver(mail, call)
    async with call.complete():
        pass


async def _deliver(mail: SendMail, call: ExternalCall) -> None:
    if call.outcome_unknown:
        logger.warning(
            "sending this mail again: the last attempt failed; if only its response was lost, the mail arrives twice"
        )
    try:
        await smtp.deliver(mail, message_id=call.id, settings=settings())
    except Exception as error:
        server_watch.mail_state.failed(error)
        raise
    server_watch.mail_state.worked()
