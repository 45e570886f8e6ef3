"""What is wrong with the processes: a relay that is missing, processes that are frozen, handlers that do not end."""

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.status import InstallationStatus

NAMES = {"api": "API process", "relay": "relay", "work": "worker"}


def of_processes(status: InstallationStatus) -> list[Finding]:
    """Causes come first: frozen processes, then a missing relay."""
    findings = [
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


def pid(process: str) -> str:
    """The process id in the name `host:pid`."""
    return process.rpartition(":")[2]
