"""`./stint rotate-keys`: encrypts all that is secret in the database anew, under the first key of SECRET_KEY."""

import argparse
import asyncio

from schemas import keys, xero_tokens
from schemas.database import connect
from schemas.settings import Settings, settings


async def rotate(given: Settings) -> tuple[int, int]:
    """How many signing keys and tokens were encrypted anew; all of them, or none. Safe under traffic, and to repeat: whoever
    reads one meanwhile has the old or the new form, and every process whose SECRET_KEY holds both keys reads either."""
    async with await connect(given) as conn, conn.transaction():
        tokens = await xero_tokens.seal_anew(conn, given)
        return await keys.encrypt_anew(conn, given.secret_key.get_secret_value()), tokens


def run(args: argparse.Namespace) -> int:
    """Encrypts, and says what."""
    signing_keys, tokens = asyncio.run(rotate(settings()))
    print(f"Encrypted under the first key of SECRET_KEY: {signing_keys} signing keys, {tokens} tokens of Xero.")
    return 0
