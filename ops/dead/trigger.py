"""`./stint trigger`: has a piece of work done again for one thing. It uses only Postgres."""

import argparse
import asyncio

from ops.dead import selection
from ops.dead.terminal import command_errors, who
from schemas.outbox import triggers
from schemas.outbox.triggers import Trigger, Triggered
from schemas.postgres.connection import connect
from schemas.settings import settings

TOLD = {
    "enqueued": "A new message {actor} {id} is enqueued.",
    "replayed": "Its dead letter {actor} {id} is replayed.",
    "waiting": "The message {actor} {id} is under way already; it is made due.",
}


def run(args: argparse.Namespace) -> int:
    """Triggers the work, and prints which message does it."""

    async def act() -> Triggered:
        async with await connect(settings()) as conn, conn.transaction():
            whole = await selection.triggered_id(conn, args.kind, args.id)
            request = selection.parse(Trigger, {"kind": args.kind, "id": whole, "reason": args.reason or ""})
            return await triggers.trigger(conn, request, who=who())

    with command_errors():
        found = asyncio.run(act())
    if args.json:
        print(found.model_dump_json(indent=2))
    else:
        print(TOLD[found.result].format(actor=found.actor, id=found.id), f"Next: ./stint dead show {found.id}")
    return 0
