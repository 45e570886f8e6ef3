"""What the server of Postgres shows of its own health: connections, transaction ids, what keeps old rows, and replication."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.postgres.connection import Connection
from schemas.postgres.migrate import unknown_migrations
from schemas.postgres.server import blockers
from schemas.postgres.server.blockers import Blocker

HELD_SECONDS = 3_600.0  # a transaction of Stint lasts half a minute at most, a dump perhaps some minutes


@dataclass(frozen=True)
class Holder:
    """What keeps rows that were deleted or changed from being removed, and for how long."""

    what: str
    seconds: float
    cure: str


@dataclass(frozen=True)
class Slot:
    """A replication slot that nobody reads and that keeps WAL.

    `too_much`: it keeps more than max_wal_size, or has lost some. `of_standby`: it is that of a standby, or of a program that
    receives WAL as a standby does.
    """

    name: str
    kept_bytes: int
    too_much: bool
    of_standby: bool = False


@dataclass(frozen=True)
class Standby:
    """A standby that is connected. `behind_bytes`: WAL that it has not replayed. `silent_seconds`: since its last report."""

    name: str
    behind_bytes: int
    silent_seconds: float


@dataclass(frozen=True)
class PostgresHealth:
    """The health at one moment. The ages of transaction ids and of multixacts are those of the database in which they are
    oldest.

    A holder that lasts for more than `held_most_seconds` is reported.
    """

    connections: int = 0
    connections_most: int = 0  # without those that are reserved for superusers
    users_of_connections: Sequence[str] = ()  # the three application names with the most, each with its number
    transaction_ids_age: int = 0
    multixacts_age: int = 0
    oldest_database: str = ""
    freeze_max_age: int = 200_000_000  # autovacuum freezes each table at that age, whatever keeps it from vacuuming before
    holders: Sequence[Holder] = ()  # the oldest first
    held_most_seconds: float = HELD_SECONDS
    slots: Sequence[Slot] = ()
    standbys: Sequence[Standby] = ()
    blockers: Sequence[Blocker] = ()  # the oldest first
    synchronous_names: str = ""
    synchronous_missing: int = 0
    unknown_migrations: Sequence[str] = ()  # of a newer version of Stint

    @property
    def gone_standbys(self) -> list[str]:
        """The slots of standbys that were there, and are not connected."""
        return [slot.name for slot in self.slots if slot.of_standby]

    @property
    def held_seconds(self) -> float:
        """How long old rows have been kept."""
        return max((holder.seconds for holder in self.holders), default=0.0)


async def read(conn: Connection, *, held_most_seconds: float = HELD_SECONDS) -> PostgresHealth:
    """The health of the server of this connection. `held_most_seconds` is the setting STINT_HELD_SECONDS.

    Connections of other roles count, too. Only a member of pg_monitor can see how long their transactions last, and where the
    standbys are.
    """
    connections, most = await conn.one(
        f"""
        SELECT (SELECT count(*) FROM pg_stat_activity WHERE {_OF_A_CLIENT}),
               current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true), '0')::int
        """
    )
    users = await conn.values(
        f"""
        SELECT count(*) || ' of ' || coalesce(nullif(application_name, ''), usename::text, 'others') FROM pg_stat_activity
        WHERE {_OF_A_CLIENT}
        GROUP BY coalesce(nullif(application_name, ''), usename::text, 'others') ORDER BY count(*) DESC LIMIT 3
        """
    )
    ids, multixacts, database, freeze_max_age = await conn.one(
        """
        SELECT max(age(datfrozenxid)), max(mxid_age(datminmxid)),
               (array_agg(datname::text ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC))[1],
               current_setting('autovacuum_freeze_max_age')::int
        FROM pg_database
        """
    )
    names = await conn.value("SELECT current_setting('synchronous_standby_names')")
    return PostgresHealth(
        connections=connections,
        connections_most=most,
        users_of_connections=users,
        transaction_ids_age=ids,
        multixacts_age=multixacts,
        oldest_database=database,
        freeze_max_age=freeze_max_age,
        holders=await _holders(conn),
        held_most_seconds=held_most_seconds,
        slots=await slots(conn),
        blockers=await blockers.read(conn),
        standbys=await conn.all(_STANDBYS, row=Standby),
        synchronous_names=names,
        synchronous_missing=await _missing(conn, names),
        unknown_migrations=await unknown_migrations(conn),
    )


async def slots(conn: Connection) -> list[Slot]:
    """Those that nobody reads."""
    return await conn.all(_SLOTS, row=Slot)


# of connections of other roles, backend_type is NULL unless the own role is in pg_monitor
_OF_A_CLIENT = "coalesce(backend_type = 'client backend', datid IS NOT NULL AND usesysid IS NOT NULL)"
_HOLDERS = """
    SELECT format('a transaction of the process %s (%s)', pid, coalesce(nullif(application_name, ''), usename::text)) AS what,
           extract(epoch FROM clock_timestamp() - xact_start)::float AS seconds,
           format('SELECT pg_terminate_backend(%s)', pid) AS cure
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND backend_type <> 'walsender' AND pid <> pg_backend_pid()
      AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)  -- VACUUM keeps no rows, however long it lasts
    UNION ALL
    SELECT format('the prepared transaction %s', gid), extract(epoch FROM clock_timestamp() - prepared)::float,
           format('in the database %I: ROLLBACK PREPARED %L', database, gid)
    FROM pg_prepared_xacts
    ORDER BY seconds DESC NULLS LAST LIMIT 3
"""
_SLOTS = """
    SELECT slot_name::text AS name, pg_wal_lsn_diff(last, restart_lsn)::bigint AS kept_bytes,
           wal_status <> 'reserved' AS too_much, slot_type = 'physical' AND NOT pg_is_in_recovery() AS of_standby
    FROM pg_replication_slots, (
        SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS last) AS wal
    WHERE NOT active AND restart_lsn IS NOT NULL ORDER BY slot_name
"""
_STANDBYS = """
    SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text) AS name,
           pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind_bytes,
           extract(epoch FROM clock_timestamp() - reply_time)::float AS silent_seconds
    FROM pg_stat_replication WHERE NOT pg_is_in_recovery() AND replay_lsn IS NOT NULL AND reply_time IS NOT NULL ORDER BY 1
"""


async def _holders(conn: Connection) -> list[Holder]:
    found = await conn.all(_HOLDERS)
    return [Holder(what, seconds, cure) for what, seconds, cure in found if seconds is not None]


async def _missing(conn: Connection, names: str) -> int:
    """The number of synchronous standbys that commits wait for and that are not connected. 0: there are none, or the role may
    not see that."""
    needed = _needed(names)
    if not needed or not await conn.value("SELECT pg_has_role('pg_read_all_stats', 'USAGE')"):
        return 0
    there = await conn.value(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')"
    )
    return max(0, needed - int(there))


def _needed(names: str) -> int:
    """The number of standbys that each commit waits for with this value of synchronous_standby_names.

    It is 1 for `a, b`, and 2 for `FIRST 2 (a, b, c)`, `ANY 2 (a, b, c)` and `2 (a, b, c)`.
    """
    before, bracket, _ = names.partition("(")
    number = before.split()[-1:]
    if bracket and number and number[0].isdecimal():
        return int(number[0])
    return 1 if names.strip() else 0


def lines(health: PostgresHealth) -> list[str]:
    """The metrics, in Prometheus's text format."""

    def escaped(name: str) -> str:
        return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    behind: dict[str, int] = {}  # of several with the same name, such as walreceiver, the one that is behind most
    for standby in health.standbys:
        behind[escaped(standby.name)] = max(standby.behind_bytes, behind.get(escaped(standby.name), 0))
    kept = {escaped(slot.name): slot.kept_bytes for slot in health.slots}
    return [
        *blockers.lines(health.blockers),
        "# TYPE stint_postgres_connections gauge",
        f"stint_postgres_connections {health.connections}",
        "# TYPE stint_postgres_connections_most gauge",
        f"stint_postgres_connections_most {health.connections_most}",
        "# TYPE stint_postgres_transaction_ids_age gauge",
        f"stint_postgres_transaction_ids_age {health.transaction_ids_age}",
        "# TYPE stint_postgres_multixacts_age gauge",
        f"stint_postgres_multixacts_age {health.multixacts_age}",
        "# TYPE stint_postgres_held_seconds gauge",
        f"stint_postgres_held_seconds {health.held_seconds:.1f}",
        "# TYPE stint_postgres_held_most_seconds gauge",
        f"stint_postgres_held_most_seconds {health.held_most_seconds:.1f}",
        "# TYPE stint_postgres_standbys_missing gauge",
        f"stint_postgres_standbys_missing {health.synchronous_missing}",
        "# TYPE stint_postgres_standbys_gone gauge",
        f"stint_postgres_standbys_gone {len(health.gone_standbys)}",
        "# TYPE stint_postgres_unknown_migrations gauge",
        f"stint_postgres_unknown_migrations {len(health.unknown_migrations)}",
        "# TYPE stint_postgres_standby_behind_bytes gauge",
        *(f'stint_postgres_standby_behind_bytes{{standby="{name}"}} {count}' for name, count in behind.items()),
        "# TYPE stint_postgres_slot_bytes gauge",
        *(f'stint_postgres_slot_bytes{{slot="{name}"}} {count}' for name, count in kept.items()),
    ]
