"""The part of `/metrics` that is read from Postgres: at most once in a few seconds, however many scrapes ask for it."""

import asyncio
import socket
import time

import psycopg

from schemas.diagnosis import postgres_health, secrets
from schemas.outbox import clocks, heartbeats, metrics
from schemas.postgres import backups
from schemas.postgres.connection import UNREACHABLE, Connection, PoolBusy, is_unreachable
from schemas.postgres.migrate import UNDEFINED
from schemas.postgres.pool import Database
from schemas.postgres.server import blockers
from schemas.postgres.server.writes import check_writable
from schemas.servers.postgres_refusals import WRITES_REFUSED
from schemas.settings import Settings
from schemas.slack.access import loss


class OutboxMetrics:
    """The metrics of the whole installation, as this process read them last, at most once in STINT_METRICS_SECONDS."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._reading: asyncio.Task[list[str]] | None = None
        self._read_at = float("-inf")

    async def lines(self) -> list[str]:
        """The metrics, at most STINT_METRICS_SECONDS old. Concurrent callers share one read; one that is cancelled does not end
        it."""
        if self._reading is None or (self._reading.done() and not self._is_fresh(self._reading)):
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    def _is_fresh(self, read: asyncio.Task[list[str]]) -> bool:
        has_failed = read.cancelled() or read.exception() is not None
        return not has_failed and time.monotonic() - self._read_at < self._settings.stint_metrics_seconds

    async def _read(self) -> list[str]:
        try:
            lines = ["stint_postgres_up 1", *await self._database.with_deadline(self._read_outbox())]
        except UNDEFINED:  # the database lacks migrations, which stint_findings tells
            lines = ["stint_postgres_up 1"]
        except Exception as error:
            if not is_unreachable(error):
                raise
            if isinstance(error, PoolBusy):  # Postgres answers others
                lines = ["stint_postgres_up 1", *await self._blockers()]
            else:
                lines = ["stint_postgres_up 0"]
        self._read_at = time.monotonic()
        return ["# TYPE stint_postgres_up gauge", *lines]

    async def _read_outbox(self) -> list[str]:
        async with self._database.connection(queued=False) as conn:
            refusal = await self._refusal_of_writes(conn)
            writable = [
                "# TYPE stint_postgres_writable gauge",
                f"stint_postgres_writable {int(refusal is None)}",
                "# TYPE stint_postgres_disk_full gauge",
                f"stint_postgres_disk_full {int(isinstance(refusal, psycopg.errors.DiskFull))}",
            ]
            backup = backups.lines(await backups.read(conn, max_age_days=self._settings.backup_max_age_days))
            held = self._settings.stint_held_seconds
            health = postgres_health.lines(await postgres_health.read(conn, held_most_seconds=held))
            problems = await problem_lines(conn, self._settings)
            return [*writable, *health, *backup, *await metrics.metrics(conn), *problems]

    async def _blockers(self) -> list[str]:
        """What is known while the rest cannot be read, perhaps because somebody has locked a table."""
        try:
            return await self._database.with_deadline(self._read_blockers())
        except UNREACHABLE:
            return []

    async def _read_blockers(self) -> list[str]:
        async with self._database.connection(queued=False) as conn:
            return blockers.lines(await blockers.read(conn))

    async def _refusal_of_writes(self, conn: Connection) -> Exception | None:
        """Why Postgres stores no changes now; None: it does."""
        try:
            await check_writable(conn, disk=self._database.disk_was_full)
        except WRITES_REFUSED as error:
            self._database.note_refusal(error)
            return error
        return None


async def problem_lines(conn: Connection, settings: Settings) -> list[str]:
    """What `./stint doctor` finds beside the outbox: lost access, secrets, clocks. Gauges of what is not in use
    are absent."""
    own_seconds = await clocks.seconds_ahead(conn)
    wrong = clocks.wrong_clocks(await heartbeats.processes(conn), host=socket.gethostname(), own_seconds=own_seconds)
    unreadable = await secrets.unreadable(conn, settings)
    # of the configured token: what Slack refused to an earlier one is over
    lost = await loss.losses(conn, settings) if settings.slack_bot_token is not None else []
    of_slack = sorted({(each.problem, each.needed) for each in lost})
    of_xero = await conn.value(
        "SELECT count(*) FROM xero_connection WHERE tenant_id IS NOT NULL AND needs_reconnect_at IS NOT NULL"
    )
    refused = await conn.value("SELECT count(*) FROM time_bills WHERE xero_status = 'failed'")
    unconnected = await conn.value(
        """
        SELECT count(*) FROM time_bills WHERE xero_status IN ('not_connected', 'withdrawing')
          AND NOT EXISTS (SELECT FROM xero_connection WHERE tenant_id IS NOT NULL)
        """
    )
    return [
        "# TYPE stint_wrong_clocks gauge",
        f"stint_wrong_clocks {len(wrong)}",
        "# TYPE stint_unreadable_secrets gauge",
        f"stint_unreadable_secrets {unreadable.signing_key + (unreadable.organisation is not None)}",
        "# TYPE stint_slack_access_lost gauge",
        *(f'stint_slack_access_lost{{problem="{problem}",needed="{needed}"}} 1' for problem, needed in of_slack),
        "# TYPE stint_xero_access_lost gauge",
        f"stint_xero_access_lost {of_xero}",
        "# TYPE stint_xero_refused_bills gauge",
        *([f"stint_xero_refused_bills {refused}"] if settings.xero_client_id is not None else []),
        "# TYPE stint_xero_unconnected_bills gauge",
        *([f"stint_xero_unconnected_bills {unconnected}"] if settings.xero_client_id is not None else []),
    ]
