"""What is wrong, or soon will be, with a Postgres that works."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.postgres_health import PostgresHealth
from schemas.postgres.server.blockers import LONG_SECONDS, cure_of


@dataclass(frozen=True)
class Limits:
    """What is reported when it is exceeded."""

    connections: float = 0.85  # the part of them that is in use
    ids: int = 1_000_000_000  # autovacuum begins at 200 million, and Postgres stops writes near 2,147 million
    blocked_seconds: float = LONG_SECONDS
    behind_bytes: int = 256 * 2**20
    silent_seconds: float = 60.0  # a standby reports every 10 seconds


def of_postgres(health: PostgresHealth, limits: Limits | None = None) -> list[Finding]:
    """The most urgent first."""
    limits = limits or Limits()
    return [
        *_of_blockers(health, limits),
        *_of_replication(health, limits),
        *_of_connections(health, limits),
        *_of_transaction_ids(health, limits),
        *_of_old_rows(health),
        *_of_slots(health),
        *_of_version(health),
    ]


def _of_blockers(health: PostgresHealth, limits: Limits) -> Iterator[Finding]:
    for blocker in health.blockers:
        if blocker.seconds > limits.blocked_seconds:
            yield Finding(
                f"Postgres {blocker.words}.",
                "what waits for it gives up after STINT_STATEMENT_SECONDS: requests are answered with 503, messages wait",
                cure_of(blocker),
            )


def _of_replication(health: PostgresHealth, limits: Limits) -> Iterator[Finding]:
    if health.synchronous_missing:
        yield Finding(
            f"A synchronous standby of Postgres is missing: {health.synchronous_missing} of those that "
            f"synchronous_standby_names = '{health.synchronous_names}' asks for.",
            "each write waits for it, up to STINT_STATEMENT_SECONDS, and is then stored on the primary alone",
            "start the standby, or connect another one of that name. Without any, and if losing the primary may lose what is "
            "written meanwhile: ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()",
        )
    for slot in health.gone_standbys:
        yield Finding(
            f"A standby of Postgres is gone: nobody reads its replication slot {slot}.",
            "a failover to it would lose what is written now, and the primary keeps that WAL for it",
            "start it, or restore the network to it: pg_stat_replication on the primary shows those that are there. If there "
            f"is none any more: SELECT pg_drop_replication_slot('{slot}')",
        )
    for standby in health.standbys:
        if standby.behind_bytes > limits.behind_bytes or standby.silent_seconds > limits.silent_seconds:
            yield Finding(
                f"A standby of Postgres is behind: {standby.name}, by {standby.behind_bytes / 2**20:,.0f} MB; "
                f"its last report was {standby.silent_seconds:,.0f} s ago.",
                "a failover to it would lose what it lacks, unless it is synchronous; and the primary keeps that WAL for it",
                "look at its log, its disk and the network to it; if it will not come back, drop its replication slot",
            )


def _of_connections(health: PostgresHealth, limits: Limits) -> Iterator[Finding]:
    if health.connections > limits.connections * health.connections_most:
        yield Finding(
            f"Connections of Postgres are running out: {health.connections} of {health.connections_most} are in use "
            f"({', '.join(health.users_of_connections)}).",
            "the next process gets none: it answers 503, or waits",
            "end those that nobody needs, run fewer processes, or raise max_connections and restart Postgres; an API process "
            "uses up to 28",
        )


def _of_transaction_ids(health: PostgresHealth, limits: Limits) -> Iterator[Finding]:
    age = max(health.transaction_ids_age, health.multixacts_age)
    if age > limits.ids:
        kind = "Transaction ids" if age == health.transaction_ids_age else "Multixact (transaction) ids"
        yield Finding(
            f"{kind} of Postgres are running out: the oldest of the database {health.oldest_database} is {age / 1e6:,.0f} "
            "million ids old, of 2,147 million.",
            "Postgres stops all writes when none is left",
            "end first what keeps old rows, if ./stint doctor names anything; then: vacuumdb --all --freeze"
            + _reset(health, limits),
        )


def _reset(health: PostgresHealth, limits: Limits) -> str:
    """What to do about a setting that keeps autovacuum away. vacuumdb leaves out template0, to which nobody can connect."""
    if health.freeze_max_age <= limits.ids:
        return ""
    return (
        f"; and so that autovacuum, which waits for {health.freeze_max_age / 1e6:,.0f} million, freezes template0, too: "
        "ALTER SYSTEM RESET autovacuum_freeze_max_age, remove it from postgresql.conf, and restart Postgres"
    )


def _of_old_rows(health: PostgresHealth) -> Iterator[Finding]:
    for holder in health.holders:
        if holder.seconds > health.held_most_seconds:
            lasts = f"{holder.seconds / 3600:,.1f} hours" if holder.seconds >= 3600 else f"{holder.seconds:,.0f} s"
            yield Finding(
                f"Old rows of Postgres cannot be removed: {holder.what} keeps them, for {lasts}.",
                "tables and indexes grow, and queries grow slower, until it ends",
                f"find out whose it is and end it: {holder.cure}",
            )


def _of_slots(health: PostgresHealth) -> Iterator[Finding]:
    for slot in health.slots:
        if slot.too_much:
            yield Finding(
                f"A replication slot of Postgres keeps WAL: {slot.name}, {slot.kept_bytes / 2**20:,.0f} MB. Nobody reads it.",
                "the disk of Postgres fills up until it is read or dropped",
                f"start the standby or the program that reads it; if there is none any more: "
                f"SELECT pg_drop_replication_slot('{slot.name}')",
            )


def _of_version(health: PostgresHealth) -> Iterator[Finding]:
    if health.unknown_migrations:
        yield Finding(
            f"The database is of a newer version of Stint: this one does not know {health.unknown_migrations[-1]}.",
            "parts of both versions run, as during an upgrade; or this one was started by mistake",
            "end the upgrade: run the newer version everywhere, also for this command",
        )
