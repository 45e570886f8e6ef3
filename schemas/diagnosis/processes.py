"""What is wrong with the processes: some are gone or frozen, a relay is missing, handlers do not end."""

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.status import InstallationStatus
from schemas.outbox.heartbeats import Process

NAMES = {"api": "API process", "relay": "relay", "work": "worker"}


def of_processes(status: InstallationStatus) -> list[Finding]:
    """Causes come first: processes that are gone or frozen, then a missing relay."""
    findings = _of_gone(status)
    findings += [
        Finding(
            f"A process is frozen: the {NAMES.get(process.kind, process.kind)} {process.process} has sent no heartbeat for "
            f"{process.silent_seconds:,.0f} s, and its connection to Postgres is open.",
            "it does nothing, and what it has waits: for a worker, until STINT_SENT_SECONDS have passed",
            f"on its host: kill -CONT {pid(process.process)}; if it stays frozen, kill -9 {pid(process.process)}: "
            "./stint up starts another one",
        )
        for process in status.processes
        if process.frozen
    ]
    if not status.alive("relay"):
        consequence = "no message is sent to RabbitMQ, rescued or replayed"
        findings.append(Finding("No relay is alive.", consequence, "./stint up runs one; or ./stint relay"))
    return findings + [
        Finding(
            f"A handler runs longer than its deadline: {late.actor}, for {late.seconds:,.0f} s, in {process.process}.",
            "it blocks in code that cannot be cancelled, and its thread handles nothing else; a worker whose handler does not "
            "end is restarted after some minutes, and the message is delivered again",
            f"on its host, py-spy dump --pid {pid(process.process)} shows where it is; kill -9 {pid(process.process)} ends it",
        )
        for process in status.alive("work")
        for late in process.late_handlers
    ]


def _of_gone(status: InstallationStatus) -> list[Finding]:
    """By host. What only says that none of a kind is left has a finding of its own."""
    by_host: dict[str, list[Process]] = {}
    for process in status.processes:
        if process.gone:
            by_host.setdefault(process.host, []).append(process)
    return [_of_host(status, host, gone) for host, gone in by_host.items() if any(_has_others(status, each) for each in gone)]


def _of_host(status: InstallationStatus, host: str, gone: list[Process]) -> Finding:
    names = [each.process for each in gone]
    is_alone = not any(each.alive and each.host == host for each in status.processes)
    return Finding(
        f"Processes are gone from the host {host}: {', '.join(f'the {NAMES[each.kind]} {each.process}' for each in gone)}. "
        f"No end was recorded, the last heartbeat was {min(each.silent_seconds for each in gone):,.0f} s ago"
        f"{', and no process of that host is alive' if is_alone else ''}.",
        "others do their work, more slowly; if they are lost too, it waits, or the API does not answer",
        "see whether that host runs and reaches Postgres, and why they ended: their logs; then start them again. Those that "
        f"nobody needs any more: DELETE FROM heartbeats WHERE process IN ({', '.join(map(repr, names))})",
    )


def _has_others(status: InstallationStatus, gone: Process) -> bool:
    """Whether others of its kind are alive, for each of its queues."""
    if not gone.queues:
        return bool(status.alive(gone.kind))
    return all(status.alive(gone.kind, queue) for queue in gone.queues)


def pid(process: str) -> str:
    """The process id in the name `host:pid`."""
    return process.rpartition(":")[2]
