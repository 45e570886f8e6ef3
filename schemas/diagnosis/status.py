"""The state of the installation, as far as Postgres knows: queues, processes, dead letters, Xero, Slack and the user pool."""

import socket
from dataclasses import dataclass, field

from schemas.diagnosis import postgres_health, secrets
from schemas.diagnosis.postgres_health import PostgresHealth
from schemas.diagnosis.secrets import Unreadable
from schemas.identity import leftovers, user_pool
from schemas.masking import Redactor
from schemas.outbox import clocks, heartbeats, metrics, queue_samples
from schemas.outbox.dead_letters import groups
from schemas.outbox.heartbeats import Process
from schemas.outbox.metrics import QueueDepth
from schemas.postgres import backups, sync_epochs
from schemas.postgres.backups import LastBackup
from schemas.postgres.connection import Connection
from schemas.postgres.sync_epochs import Restore
from schemas.settings import Settings
from schemas.slack.access import loss as slack_loss
from schemas.slack.access import ops_channel
from schemas.xero.access import status as xero_status
from schemas.xero.checks.stray_entries import stray_entries
from schemas.xero.differences import alerts
from schemas.xero.differences.alerts import WaitingBills


@dataclass
class InstallationStatus:
    """What could be read. Most of it is in Postgres, so it stays empty while Postgres is unreachable."""

    servers: dict[str, str] = field(default_factory=dict)  # "ok", "not set", or what is wrong
    cures: dict[str, str] = field(default_factory=dict)  # of a server with a problem that is known: what to do
    processes: list[Process] = field(default_factory=list)
    queues: list[QueueDepth] = field(default_factory=list)
    dead: int = 0
    groups: int = 0
    unrecognized: int = 0
    lacks_migrations: bool = False
    wrong_clocks: list[str] = field(default_factory=list)  # each with its difference
    stray_entries: list[str] = field(default_factory=list)  # in Xero, each described
    xero_failed: int = 0  # bills that Xero has refused
    xero_differs: int = 0  # bills whose time entries were changed in Xero by hand
    xero_waiting: list[WaitingBills] = field(default_factory=list)  # bills that wait until a person acts
    timers_without_access: list[str] = field(default_factory=list)  # the addresses of their users
    unreadable_secrets: Unreadable = field(default_factory=Unreadable)  # what SECRET_KEY does not decrypt
    postgres: PostgresHealth = field(default_factory=PostgresHealth)
    backup: LastBackup = field(default_factory=LastBackup)
    restore: Restore | None = None  # of Postgres to an earlier moment, in the last day
    overload: str = ""  # of this host, in words, if it may be why something does not answer in time

    def alive(self, kind: str, queue: str | None = None) -> list[Process]:
        """The living processes of that kind; with `queue`, only those that take its messages."""
        alive = [each for each in self.processes if each.alive and each.kind == kind]
        return alive if queue is None else [each for each in alive if queue in each.queues and each.takes_messages]

    def waiting(self, queue: str) -> list[Process]:
        """The living workers for that queue that cannot take its messages from RabbitMQ."""
        return [each for each in self.alive("work") if queue in each.queues and not each.takes_messages]


async def read(
    conn: Connection, settings: Settings, status: InstallationStatus | None = None, *, for_page: bool = False
) -> InstallationStatus:
    """Fills in what Postgres knows; without a status a new one, whose Postgres is ok. `for_page`: the messages of a long queue
    are counted as its page does."""
    status = status or InstallationStatus(servers={"Postgres": "ok"})
    status.queues = await (queue_samples.depths if for_page else metrics.queue_depths)(conn)
    status.processes = await heartbeats.processes(conn)
    own_seconds = await clocks.seconds_ahead(conn)
    status.wrong_clocks = clocks.wrong_clocks(status.processes, host=socket.gethostname(), own_seconds=own_seconds)
    found = await groups.list_groups(conn, Redactor(settings))
    status.dead, status.groups, status.unrecognized = found.dead, len(found.items), found.unrecognized
    status.stray_entries = await stray_entries(conn, settings)
    status.unreadable_secrets = await secrets.unreadable(conn, settings)
    status.postgres = await postgres_health.read(conn, held_most_seconds=settings.stint_held_seconds)
    status.restore = await sync_epochs.last_restore(conn)
    status.backup = await backups.read(conn, max_age_days=settings.backup_max_age_days)
    status.timers_without_access = await leftovers.timers_without_access(conn)
    if settings.uses_external_identity:
        status.servers["user pool"] = await _user_pool(conn, settings)
    status.servers |= {"Xero": await _xero(conn, settings, status), "Slack": await _slack(conn, settings, status)}
    return status


async def _user_pool(conn: Connection, settings: Settings) -> str:
    reading = await user_pool.last_reading(conn)
    late_seconds = user_pool.LATE_SECONDS + settings.stint_pool_seconds
    if reading.error is None and reading.age_seconds is not None and reading.age_seconds < late_seconds:
        return "ok"
    when = "was never read" if reading.age_seconds is None else f"was last read {reading.age_seconds:,.0f} s ago"
    return f"{when}: {reading.error}" if reading.error else when


async def _xero(conn: Connection, settings: Settings, status: InstallationStatus) -> str:
    """The state that was last recorded. Xero itself is not called: its rate limits are needed for the bills."""
    if settings.xero_client_id is None:
        return "not set"
    found = await xero_status.connection_status(conn, settings)
    status.xero_differs, status.xero_failed = await xero_status.count_differing(conn), found.failed
    status.xero_waiting = await alerts.waiting_bills(conn)
    if found.access_lost is not None:
        status.cures["Xero"] = found.access_lost.cure
        return f"gives no access since {found.access_lost.since:%Y-%m-%d %H:%M} UTC: {found.access_lost.text}"
    if not found.connected:
        return "is not connected"
    return f"has refused {found.failed:,} {'bill' if found.failed == 1 else 'bills'}" if found.failed else "ok"


async def _slack(conn: Connection, settings: Settings, status: InstallationStatus) -> str:
    if settings.slack_bot_token is None:
        return "not set"
    losses = await slack_loss.losses(conn, settings)
    if not losses:
        refused = await ops_channel.refusal(conn, settings)
        return "ok" if refused is None else f"takes no posts about outages in the channel {refused}"
    status.cures["Slack"] = " Also: ".join(dict.fromkeys(loss.words.cure for loss in losses))
    problems = "; ".join(dict.fromkeys(loss.words.text for loss in losses))
    return f"refuses calls since {losses[0].lost_at:%Y-%m-%d %H:%M} UTC: {problems}"
