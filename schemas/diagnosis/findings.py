"""What is wrong with the installation, why that matters, and what to do about it."""

from schemas.diagnosis.bills_in_xero import of_bills_in_xero
from schemas.diagnosis.finding import Finding
from schemas.diagnosis.postgres_findings import of_postgres
from schemas.diagnosis.processes import of_processes
from schemas.diagnosis.queues import of_other_queues, of_queue
from schemas.diagnosis.servers import of_certificates, of_cluster, of_hosts, of_server, with_reports
from schemas.diagnosis.status import InstallationStatus
from schemas.postgres.backups import LastBackup
from schemas.postgres.sync_epochs import Restore


def diagnose(status: InstallationStatus) -> list[Finding]:
    """What is wrong. A cause comes before its consequences."""
    has_postgres = status.servers.get("Postgres") == "ok"
    findings = _of_overload(status.overload)
    findings += [
        of_server(name, state, status.cures.get(name))
        for name, state in with_reports(status).items()
        if state not in ("ok", "not set") and (has_postgres or not state.startswith("is not ready"))
    ]
    if not has_postgres:  # all that follows is read from Postgres, or written to it by processes that run
        return findings
    findings += of_hosts(status)
    findings += of_cluster(status)
    findings += of_postgres(status.postgres)
    findings += of_processes(status)
    findings += of_certificates(status)
    findings += _of_clocks_and_secrets(status)
    findings += _of_backup(status.backup) + _of_restore(status.restore)
    findings += of_other_queues(status)
    findings += [finding for queue in status.queues if (finding := of_queue(status, queue))]
    if status.dead:
        findings.append(
            Finding(
                f"Dead letters: {status.dead:,}, in {status.groups} {'group' if status.groups == 1 else 'groups'}.",
                "retries are exhausted or pointless; they will not be retried automatically",
                "./stint dead shows the errors; fix the cause, then ./stint dead replay --group G --canary 1 --reason '…'",
            )
        )
    if status.unrecognized:
        findings.append(
            Finding(
                f"Unrecognized messages arrived from RabbitMQ: {status.unrecognized:,}.",
                "another program publishes to Stint's queues, or they are older than Postgres (a restore) or this version",
                "./stint dead shows their groups, ./stint dead show ID a body; find who sends them and end that, then "
                "./stint dead discard --group GROUP --reason '…'",
            )
        )
    findings += of_bills_in_xero(status)
    if emails := status.timers_without_access:
        findings.append(
            Finding(
                f"Timers run of users who have no access any more: {', '.join(emails[:5])}{' …' if len(emails) > 5 else ''}.",
                "their time grows, and the bills of these days cannot be approved",
                "./stint user remove EMAIL --stop-timer, or an admin: POST /api/active-timers/USER_ID/stop with endTime",
            )
        )
    return findings


def _of_overload(overload: str) -> list[Finding]:
    if not overload:
        return []
    return [
        Finding(
            f"This host is overloaded: {overload}.",
            "what seems not to answer may only be slow: what follows may be a consequence",
            "end or move what uses its processors (top shows it), or give it more; then look again",
        )
    ]


def _of_clocks_and_secrets(status: InstallationStatus) -> list[Finding]:
    findings = []
    for clock in status.wrong_clocks:
        findings.append(
            Finding(
                f"A clock is wrong: {clock}.",
                "Postgres's decides the times of hours and tokens; others those of logs, and which requests of Slack are old",
                "let chrony or systemd-timesyncd set the clock of that host; then restart the process that is named",
            )
        )
    if status.unreadable_secrets:
        findings.append(
            Finding(
                f"SECRET_KEY does not decrypt {status.unreadable_secrets.named}.",
                "nobody can sign in, or nothing is sent to Xero; tokens that were signed before are valid until they expire",
                "set SECRET_KEY to the key that encrypted it; if it is lost: docs/operations.md, SECRET_KEY does not decrypt",
            )
        )
    return findings


def _of_backup(backup: LastBackup) -> list[Finding]:
    if not backup.is_late:
        return []
    made = "none was made" if backup.age_seconds is None else f"{backup.age_seconds / 86_400:,.1f} days, at {backup.place}"
    return [
        Finding(
            f"The last backup is too old: {made}.",
            f"what was written since is lost with Postgres; a backup is expected every {backup.max_age_days:g} days",
            "find out why it is not made (cron, systemd), and make one: docs/operations.md, The last backup is too old",
        )
    ]


def _of_restore(restore: Restore | None) -> list[Finding]:
    if restore is None:
        return []
    return [
        Finding(
            f"Postgres was restored to {restore.moment:%Y-%m-%d %H:%M} UTC: {restore.age_seconds / 60:,.0f} min ago.",
            "all sessions have ended; who was removed or lost a role after that moment has it again, and can sign in",
            "./stint user remove EMAIL removes them again; nothing else has to be done; shown for a day",
        )
    ]
