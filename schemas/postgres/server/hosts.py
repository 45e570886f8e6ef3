"""Looks at each host of Postgres that DATABASE_URL names, also those that Stint does not use now: a failover needs them."""

import asyncio

import psycopg
from psycopg.conninfo import make_conninfo

from schemas.postgres.connection import CONNECTION_OPTIONS
from schemas.postgres.server.failures import explain
from schemas.servers.lost_hosts import Address
from schemas.servers.postgres_hosts import HOST_SECONDS, Host, hosts_of

ACCEPTS_NOBODY = "Hot standby mode is disabled"  # a standby that runs as it should: hot_standby is off


async def try_all(database_url: str) -> dict[Address, str | None]:
    """Connects to each address for a moment, and says what is wrong with it, or None. Empty if there is only one."""
    hosts = await hosts_of(database_url).in_order()
    problems = await asyncio.gather(*(_problem(database_url, host) for host in hosts))
    return {Address(_named(host), host.address): problem for host, problem in zip(hosts, problems, strict=True)}


def _named(host: Host) -> str:
    return host.name if host.name.startswith("/") or not host.port else f"{host.name}:{host.port}"


async def _problem(database_url: str, host: Host) -> str | None:
    any_role = {"connect_timeout": HOST_SECONDS, "target_session_attrs": "any"}
    try:
        conn = await psycopg.AsyncConnection.connect(database_url, **CONNECTION_OPTIONS | any_role | host.options())
    except psycopg.OperationalError as error:
        if ACCEPTS_NOBODY in str(error):
            return None
        return explain(error, make_conninfo(database_url, host=host.name, port=host.port or None)).state
    await conn.close()
    return None
