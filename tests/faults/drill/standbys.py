"""Breakages of a standby of Postgres."""

import psycopg

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.clusters import Cluster, clusters
from tests.support.given import Json
from tests.support.installation import eventually

NAME, SLOT = "standby", "of_the_standby"
MEGABYTES, AT_ONCE = 280, 35  # of WAL; the file system of the primary may be small, so that it keeps few of them
STREAMS = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND flush_lsn = pg_current_wal_lsn()"
SYNCHRONOUS = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"


def _set_synchronous(site: Site, names: str) -> None:
    with psycopg.connect(site.stint.database_url, autocommit=True) as conn:
        conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
        conn.execute("SELECT pg_reload_conf()")


def _start(site: Site, *settings: str) -> None:
    """A standby of the private Postgres, which streams."""
    made = site.held.enter_context(clusters())
    site.standby = made.keep(Cluster(made.home / NAME)).of(site.servers.postgres.sockets, NAME)
    site.standby.with_settings(*settings).start()
    eventually(lambda: site.stint.value(STREAMS), seconds=30, why="the standby streams")


def _start_synchronous(site: Site) -> None:
    _start(site)
    _set_synchronous(site, NAME)
    eventually(lambda: site.stint.value(SYNCHRONOUS), seconds=30, why="commits wait for the standby")


def _start_with_slot(site: Site) -> None:
    with psycopg.connect(site.stint.database_url, autocommit=True) as conn:
        conn.execute("SELECT pg_create_physical_replication_slot(%s)", (SLOT,))
    _start(site, f"primary_slot_name = '{SLOT}'")


def _drop_slot(site: Site) -> None:
    site.held.close()
    drop = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    eventually(lambda: site.stint.value(drop, SLOT), seconds=30, why="nobody reads the slot")


def _name_two_hosts(site: Site) -> None:
    _start(site)
    [before, sockets] = site.stint.database_url.split("?host=")
    site.restart("relay", DATABASE_URL=f"{before}?host={sockets},{_standby(site).sockets}")


def _name_one_host(site: Site) -> None:
    site.restart("relay", DATABASE_URL=site.stint.database_url)
    site.held.close()


def _end_synchronous(site: Site) -> None:
    _set_synchronous(site, "")
    site.held.close()


def _fall_behind(site: Site) -> None:
    """It receives WAL, and replays none."""
    _standby(site).value("SELECT pg_wal_replay_pause()")
    with psycopg.connect(site.stint.database_url, autocommit=True) as conn:
        for _ in range(MEGABYTES // AT_ONCE):
            conn.execute(
                "SELECT pg_logical_emit_message(false, 'drill', repeat('x', 1 << 20)) FROM generate_series(1, %s)", (AT_ONCE,)
            )
            eventually(lambda: site.stint.value(STREAMS), seconds=30, why="the standby has received it")
            conn.execute("CHECKPOINT")  # the primary need not keep it


def _start_again(site: Site, _: Json) -> None:
    _standby(site).stop()
    _standby(site).start()


def _standby(site: Site) -> Cluster:
    assert site.standby is not None
    return site.standby


BREAKAGES = [
    Breakage(
        "a synchronous standby is stopped",
        f"A synchronous standby of Postgres is missing: 1 of those that synchronous_standby_names = '{NAME}' asks for",
        "A synchronous standby of Postgres is missing",
        "start the standby",
        lambda site: _standby(site).stop(),
        lambda site, _: _standby(site).start(),
        prepare=_start_synchronous,
        tidy=_end_synchronous,
    ),
    Breakage(
        "a standby with a replication slot is stopped",
        f"A standby of Postgres is gone: nobody reads its replication slot {SLOT}",
        "A standby of Postgres is gone",
        "start the standby",
        lambda site: _standby(site).stop(),
        lambda site, _: _standby(site).start(),
        prepare=_start_with_slot,
        tidy=_drop_slot,
    ),
    Breakage(
        "a host of Postgres is gone",
        "A host of Postgres cannot be used: /",
        "A host of Postgres cannot be used",
        "start Postgres there",
        lambda site: _standby(site).stop(),
        lambda site, _: _standby(site).start(),
        prepare=_name_two_hosts,
        tidy=_name_one_host,
    ),
    Breakage(
        "a standby does not replay",
        f"A standby of Postgres is behind: {NAME}, by",
        "A standby of Postgres is behind",
        "start it again",
        _fall_behind,
        _start_again,
        prepare=_start,
        tidy=lambda site: site.held.close(),
    ),
]
