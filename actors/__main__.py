"""`python -m actors work --queues timers,bills [--threads N]` and `python -m actors relay`: one process each."""

import sys
from collections.abc import Callable

from schemas.starting import no_collections


def main() -> None:
    """Runs the process that the command line asks for, until SIGTERM, or exits with the names of the missing settings."""
    with no_collections():
        from schemas.settings import SettingsMissing

        run = _prepared()
    try:
        run()
    except SettingsMissing as error:
        sys.exit(str(error))


def _prepared() -> Callable[[], None]:
    """What the command line asks for, with all that it needs imported."""
    import argparse

    import uvloop

    from schemas.logs import configure_logging
    from schemas.messages import QUEUES
    from schemas.settings import settings
    from schemas.tracing import configure_tracing

    parser = argparse.ArgumentParser(prog="./stint", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    worker = kinds.add_parser("work", help="handle messages")
    worker.add_argument("--queues", default=",".join(QUEUES), help="with commas or - between them; all of them by default")
    worker.add_argument("--threads", type=int, default=4, help="number of messages handled at the same time")
    kinds.add_parser("relay", help="publish messages; rescue, replay and prune them")
    arguments = parser.parse_args()
    configure_logging(arguments.kind)
    configure_tracing(arguments.kind)
    if arguments.kind == "relay":
        from actors.runtime.relay import relay

        return lambda: uvloop.run(relay(settings()))
    queues = {queue.strip() for queue in arguments.queues.replace("-", ",").split(",") if queue.strip()}
    if unknown := queues - set(QUEUES):
        parser.error(f"no such queue: {', '.join(sorted(unknown))}; the queues are {', '.join(QUEUES)}")
    # only here: a relay handles no messages, and without these imports it starts in half the time
    from actors import approvals, customer_users, home, mail, reminders, slack, tasks, time_bills, timers, xero  # noqa: F401  (registers them)
    from actors.runtime.worker import work
    from schemas.base import build_models

    build_models()
    return lambda: work(settings(), queues=queues, threads=arguments.threads)


main()
