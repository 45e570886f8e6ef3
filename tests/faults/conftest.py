"""Servers of their own for tests that stop servers."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from ops.up.servers import Servers
from schemas.postgres.migrate import migrate
from tests.support.installation import with_database


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Postgres and a RabbitMQ that this module may stop."""
    home = tmp_path_factory.mktemp("servers")
    home.chmod(0o711)
    with Servers(home, durable=False) as running:
        with psycopg.connect(running.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE stint_template")
        asyncio.run(migrate(with_database(running.database_url, "stint_template")))
        yield running
