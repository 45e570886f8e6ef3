"""`./stint rotate-keys`: encrypts all secrets in the database again, with the first key of SECRET_KEY."""

import argparse
import asyncio

from ops.state import State
from schemas.identity import signing_keys as keys
from schemas.postgres.connection import connect
from schemas.settings import Settings, settings
from schemas.xero import tokens as xero_tokens


async def rotate(settings: Settings) -> tuple[int, int]:
    """Re-encrypts all secrets or none, and returns the numbers of signing keys and of Xero's tokens. Safe under load and
    safe to repeat: a process reads the old or the new form, and can decrypt both if its SECRET_KEY contains both keys."""
    async with await connect(settings) as conn, conn.transaction():
        tokens = await xero_tokens.reencrypt(conn, settings)
        return await keys.reencrypt_keys(conn, settings.secret_key.get_secret_value()), tokens


def run(args: argparse.Namespace) -> int:
    """Re-encrypts all secrets and prints how many. Raises CommandError if the Stint that runs does not know the key."""
    State(args.state).refuse_unknown_secret_key()
    signing_keys, tokens = asyncio.run(rotate(settings()))
    print(f"Encrypted under the first key of SECRET_KEY: {signing_keys} signing keys, {tokens} Xero tokens.")
    return 0
