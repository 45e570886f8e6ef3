"""`./stint reset-secrets`: the way out if SECRET_KEY is lost. It gives up what only that key decrypts."""

import argparse
import asyncio
import os
import sys

from ops.errors import CommandError
from ops.state import State
from schemas.diagnosis import secrets
from schemas.diagnosis.secrets import Unreadable
from schemas.postgres.connection import connect
from schemas.settings import settings


def run(args: argparse.Namespace) -> int:
    """Says what is lost, and gives it up with `--yes`, or after a yes at the terminal. Raises CommandError without either, and
    if the Stint that runs has another SECRET_KEY, which may decrypt all."""
    state = State(args.state)
    if state.own_setting("SECRET_KEY") not in (None, os.environ.get("SECRET_KEY")):
        raise CommandError(
            f"Nothing was changed: the Stint on {state.directory} has another SECRET_KEY than this shell. Unset it here, or "
            "start Stint with it."
        )
    found = asyncio.run(_find())
    if not found:
        print("SECRET_KEY decrypts all secrets in the database: there is nothing to give up.")
        return 0
    print("\n".join(_lost(found)), flush=True)
    if not args.yes and not _asked():
        raise CommandError("Nothing was changed: ./stint reset-secrets --yes gives these up.")
    asyncio.run(_give_up())
    print("\n".join(_done(found)))
    return 0


async def _find() -> Unreadable:
    async with await connect(settings()) as conn:
        return await secrets.unreadable(conn, settings())


async def _give_up() -> None:
    async with await connect(settings()) as conn, conn.transaction():
        await secrets.give_up(conn, await secrets.unreadable(conn, settings()), settings())


def _lost(found: Unreadable) -> list[str]:
    lines = [f"SECRET_KEY does not decrypt {found.named}. If the key that does is found, set SECRET_KEY=new,old:",
             "then nothing is lost. To give up what is encrypted means:"]  # fmt: skip
    if found.signing_key:
        lines.append("  - A new key signs tokens. Tokens and sessions remain valid until they expire, after 12 hours at most.")
    if found.organisation is not None:
        lines.append(
            f"  - Xero's tokens for {found.organisation} are deleted: an admin has to connect Xero again. Mappings stay,"
        )
        lines.append("    and approved bills wait until then; none is sent twice.")
    lines.append("  - Codes to sign in that were sent in the last ten minutes are not accepted: people ask for new ones.")
    return lines


def _asked() -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Give these up? Type yes: ").strip() == "yes"


def _done(found: Unreadable) -> list[str]:
    lines = ["A new key signs tokens from now on."] if found.signing_key else []
    if found.organisation is not None:
        lines.append("Now connect Xero again: as an admin at /console/connections.")
    return lines
