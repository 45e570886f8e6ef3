"""Messages and handlers that do what a test instructs them to, and a worker that runs them: `python -m tests.outbox.probe
work`.

Effects go to the table `probe`; what an external call does outside, and no rollback undoes, goes to `probe_calls`.
"""

import asyncio
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.errors import NonRetryable, RetryAfter
from schemas.messages import Message
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import settings

TABLES = """
    CREATE TABLE probe (key text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE probe_calls (
        key text NOT NULL, outcome_unknown boolean NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE probe_instructions (key text PRIMARY KEY, instruction text NOT NULL, times integer NOT NULL)
"""


class Probe(Message, queue="bills", timeout_seconds=3):
    """Writes its key into `probe`, and follows the instruction for that key, as often as that says."""

    key: str


class SlowProbe(Message, queue="bills"):
    """A Probe with the usual timeout."""

    key: str


class ProbeCall(Message, queue="mail", timeout_seconds=2):
    """An external call: writes its key into `probe_calls` on a connection of its own."""

    key: str


class SlowProbeCall(Message, queue="mail"):
    """A ProbeCall with the usual timeout."""

    key: str


class ProbeOneCall(Message, queue="mail", timeout_seconds=2):
    """An external call without transactions of its own: writes its key into `probe_calls`."""

    key: str


class ProbeChain(Message, queue="timers"):
    """Enqueues a Probe."""

    key: str


async def _instruction(key: str) -> str:
    """The instruction for this attempt. Counted down on a connection of its own, so that no rollback undoes it."""
    async with await Connection.connect(settings().database_url, autocommit=True) as other:
        cursor = await other.execute(
            "UPDATE probe_instructions SET times = times - 1 WHERE key = %s AND times > 0 RETURNING instruction", (key,)
        )
        row = await cursor.fetchone()
    return "" if row is None else str(row[0])


async def _follow(conn: Connection, instruction: str) -> None:
    match instruction.split(":"):
        case ["fail"]:
            raise ValueError("as instructed")
        case ["lookup"]:
            raise LookupError("as instructed")
        case ["later", seconds]:
            raise RetryAfter(float(seconds))
        case ["permanent"]:
            raise NonRetryable("as instructed")
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["hang"]:
            await asyncio.sleep(60)
        case ["block", seconds]:
            time.sleep(float(seconds))  # noqa: ASYNC251 - as code that cannot be cancelled does
        case ["query"]:
            await conn.execute("SELECT pg_sleep(60)")
        case ["disconnect"]:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        case ["deadlock"]:
            await conn.execute("DO $$ BEGIN RAISE deadlock_detected; END $$")
        case ["nul"]:
            raise ValueError("a\0b")
        case ["surrogate"]:
            raise ValueError("\ud800")
        case ["cancel"]:
            raise asyncio.CancelledError
        case ["exit"]:
            raise SystemExit(3)
        case ["sleep", seconds]:
            await asyncio.sleep(float(seconds))


@handles(Probe)
async def probe(conn: Connection, message: Probe | SlowProbe) -> None:
    await conn.execute("INSERT INTO probe (key) VALUES (%s)", (message.key,))
    await _follow(conn, await _instruction(message.key))


@handles(SlowProbe)
async def slow_probe(conn: Connection, message: SlowProbe) -> None:
    await probe(conn, message)


@handles(ProbeChain)
async def probe_chain(conn: Connection, message: ProbeChain) -> None:
    await outbox.enqueue(conn, Probe(key=message.key))


@handles(ProbeCall, calls_out=True)
async def probe_call(call: ExternalCall) -> None:
    async with call.start() as (conn, message):
        instruction = await _instruction(message.key)
    when, _, what = instruction.partition(" ")
    async with call.timeout():
        if when == "before":
            await _follow(conn, what)
        async with await Connection.connect(settings().database_url, autocommit=True) as outside:
            await outside.execute(
                "INSERT INTO probe_calls (key, outcome_unknown) VALUES (%s, %s)", (message.key, call.outcome_unknown)
            )
        if when == "after":
            await _follow(conn, what)
    if instruction == "incomplete":
        return
    if when == "late":
        await asyncio.sleep(float(what))
    async with call.complete() as conn:
        await conn.execute("INSERT INTO probe (key) VALUES (%s)", (message.key,))


@handles(ProbeOneCall, calls_out=True)
async def probe_one_call(message: ProbeOneCall, call: ExternalCall) -> None:
    async with await Connection.connect(settings().database_url, autocommit=True) as outside:
        await outside.execute(
            "INSERT INTO probe_calls (key, outcome_unknown) VALUES (%s, %s)", (message.key, call.outcome_unknown)
        )
        await _follow(outside, await _instruction(message.key))


@handles(SlowProbeCall, calls_out=True)
async def slow_probe_call(call: ExternalCall) -> None:
    await probe_call(call)


def enqueue(conn: psycopg.Connection[Any], *messages: Message) -> list[UUID]:
    """Enqueues messages as the API does, from a test."""

    async def enqueue_all() -> list[UUID]:
        async with await Connection.connect(conn.info.dsn, autocommit=True) as async_conn:
            async with async_conn.transaction():
                return [await outbox.enqueue(async_conn, message) for message in messages]

    return asyncio.run(enqueue_all())


if __name__ == "__main__":
    sys.modules["tests.outbox.probe"] = sys.modules["__main__"]
    runpy.run_module("actors", run_name="__main__", alter_sys=True)
