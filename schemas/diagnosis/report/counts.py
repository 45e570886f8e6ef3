"""How many findings there are in those sections of docs/operations.md that no other metric tells."""

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.identity import leftovers
from schemas.outbox import heartbeats, metrics
from schemas.postgres.connection import Connection
from schemas.postgres.migrate import pending
from schemas.settings import Settings
from schemas.slack.access import ops_channel
from schemas.xero.access import status as xero_status
from schemas.xero.checks.stray_entries import stray_entries
from schemas.xero.differences import alerts

MIGRATIONS = "The database lacks migrations"
# the section, by how its findings begin
SECTIONS = {
    "The queue ": "A queue differs",
    "Messages are for a queue that this version does not know": "Messages are for a queue that this version does not know",
    "Timers run of users who have no access any more": "Timers run of users who have no access any more",
    "Bills differ from their time entries in Xero": "Bills differ from their time entries in Xero",
    "Approved bills wait for Xero": "Approved bills wait for Xero",
    "Slack takes no posts": "Slack takes no posts about outages",
}
STRAYS = "Xero has time entries with the mark of a bill"


async def count(conn: Connection, settings: Settings) -> dict[str, int]:
    """The number of findings of each section. While the database lacks migrations, only that is told."""
    if await pending(conn):
        return {MIGRATIONS: 1}
    status = InstallationStatus(servers={"Postgres": "ok"})
    status.processes = await heartbeats.processes(conn)
    status.queues = await metrics.queue_depths(conn)
    status.timers_without_access = await leftovers.timers_without_access(conn)
    status.stray_entries = await stray_entries(conn, settings)
    if settings.xero_client_id is not None:
        status.xero_differs = await xero_status.count_differing(conn)
        status.xero_waiting = await alerts.waiting_bills(conn)
    if settings.slack_bot_token is not None and (refused := await ops_channel.refusal(conn, settings)) is not None:
        status.servers["Slack"] = f"takes no posts about outages in the channel {refused}"
    found = {MIGRATIONS: 0, **dict.fromkeys(SECTIONS.values(), 0), STRAYS: len(status.stray_entries)}
    for finding in diagnose(status):
        for beginning, section in SECTIONS.items():
            found[section] += finding.what.startswith(beginning)
    return found
