"""Messages and actors that do what a test tells them to, and a worker that runs them: `python -m tests.actors.probe work`.

Effects go to the table `probe`; what a call-out does to the outside, which no rollback undoes, to `probe_calls`.
"""

import asyncio
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.calling import CallOut
from actors.deliveries import handles
from schemas import ledger
from schemas.database import Connection
from schemas.errors import Permanent, RetryLater
from schemas.messages import Message
from schemas.settings import settings

TABLES = """
    CREATE TABLE probe (key text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE probe_calls (key text NOT NULL, unsure boolean NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE probe_orders (key text PRIMARY KEY, order_ text NOT NULL, times integer NOT NULL)
"""


class Probe(Message, queue="bills", deadline_seconds=3):
    """Writes its key into `probe`, after obeying the order for that key as often as it says."""

    key: str


class ProbeAtLeisure(Message, queue="bills"):
    """A Probe that may take the usual time."""

    key: str


class ProbeCall(Message, queue="mail", deadline_seconds=2):
    """Calls out: writes its key into `probe_calls` on a connection of its own."""

    key: str


class ProbeCallAtLeisure(Message, queue="mail"):
    """A ProbeCall that may take the usual time."""

    key: str


class ProbeChain(Message, queue="timers"):
    """Puts a Probe."""

    key: str


async def _order(conn: Connection, key: str) -> str:
    """What the test wants to happen this time; counted down on a connection that no rollback reaches."""
    async with await psycopg.AsyncConnection.connect(settings().database_url, autocommit=True) as other:
        cursor = await other.execute(
            "UPDATE probe_orders SET times = times - 1 WHERE key = %s AND times > 0 RETURNING order_", (key,)
        )
        row = await cursor.fetchone()
    return "" if row is None else str(row[0])


async def _obey(conn: Connection, order: str) -> None:
    match order.split(":"):
        case ["fail"]:
            raise ValueError("as ordered")
        case ["lookup"]:
            raise LookupError("as ordered")
        case ["later", seconds]:
            raise RetryLater(float(seconds))
        case ["permanent"]:
            raise Permanent("as ordered")
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["hang"]:
            await asyncio.sleep(60)
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
async def probe(conn: Connection, message: Probe | ProbeAtLeisure) -> None:
    await conn.execute("INSERT INTO probe (key) VALUES (%s)", (message.key,))
    await _obey(conn, await _order(conn, message.key))


@handles(ProbeAtLeisure)
async def probe_at_leisure(conn: Connection, message: ProbeAtLeisure) -> None:
    await probe(conn, message)


@handles(ProbeChain)
async def probe_chain(conn: Connection, message: ProbeChain) -> None:
    await ledger.put(conn, Probe(key=message.key))


@handles(ProbeCall, calls_out=True)
async def probe_call(work: CallOut) -> None:
    async with work.begin() as (conn, message):
        order = await _order(conn, message.key)
        if order == "unsettled":
            pass
    when, _, what = order.partition(" ")
    async with work.calling():
        if when == "before":
            await _obey(conn, what)
        async with await psycopg.AsyncConnection.connect(settings().database_url, autocommit=True) as outside:
            await outside.execute("INSERT INTO probe_calls (key, unsure) VALUES (%s, %s)", (message.key, work.unsure))
        if when == "after":
            await _obey(conn, what)
    if order == "unsettled":
        return
    if when == "late":
        await asyncio.sleep(float(what))
    async with work.settle() as conn:
        await conn.execute("INSERT INTO probe (key) VALUES (%s)", (message.key,))


@handles(ProbeCallAtLeisure, calls_out=True)
async def probe_call_at_leisure(work: CallOut) -> None:
    await probe_call(work)


def put(conn: psycopg.Connection[Any], *messages: Message) -> list[UUID]:
    """Puts messages as the API would, from a test."""

    async def put_all() -> list[UUID]:
        async with await psycopg.AsyncConnection.connect(conn.info.dsn, autocommit=True) as async_conn:
            async with async_conn.transaction():
                return [await ledger.put(async_conn, message) for message in messages]

    return asyncio.run(put_all())


if __name__ == "__main__":
    sys.modules["tests.actors.probe"] = sys.modules["__main__"]
    runpy.run_module("actors", run_name="__main__", alter_sys=True)
