"""What happens behind the queue to mail. A server whose answer is lost is asked again: nobody can know whether it arrived."""

import logging

from actors.calling import CallOut
from actors.deliveries import handles
from schemas import sign_in
from schemas.clients import mail
from schemas.messages import SendCode, SendMail
from schemas.settings import settings

logger = logging.getLogger(__name__)


@handles(SendMail, calls_out=True)
async def send_mail(work: CallOut) -> None:
    """Sends one mail to its one recipient."""
    async with work.begin() as (_, message):
        letter: SendMail = message
    await _deliver(work, letter)
    async with work.settle():
        pass


@handles(SendCode, calls_out=True)
async def send_code(work: CallOut) -> None:
    """Makes a code and sends it, if there is anybody with that address and they still wait for it."""
    async with work.begin() as (conn, message):
        asked: SendCode = message
        letter = await sign_in.issue(conn, asked, secret_key=settings().secret_key.get_secret_value())
    if letter is not None:
        await _deliver(work, letter)
    async with work.settle():
        pass


async def _deliver(work: CallOut, letter: SendMail) -> None:
    if work.unsure:
        logger.warning("sending this mail again; should the attempt before have arrived, somebody gets it twice")
    async with work.calling():
        await mail.deliver(letter, message_id=work.id, settings=settings())
