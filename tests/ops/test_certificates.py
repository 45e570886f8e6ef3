"""Certificates that end, of real servers that speak TLS and in files: what relays see of them, and what the doctor says."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from actors.runtime.relay import Relay
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus, read
from schemas.postgres.connection import connect
from schemas.servers import certificates
from schemas.settings import Settings
from tests.support.installation import Installation
from tests.support.tls import Authority, tls_server

LONG = timedelta(days=60)


def test_what_ends_is_found_at_servers_and_in_files(tmp_path: Path) -> None:
    soon, long, ended = Authority(tmp_path), Authority(tmp_path, "other"), Authority(tmp_path, "third")
    client = soon.certificate("stint")  # for an hour
    over = ended.certificate("127.0.0.1", valid=timedelta(minutes=-1))
    # nothing is behind them: the look ends with the handshake
    with (
        tls_server("127.0.0.1:1", long.certificate("localhost", valid=LONG), soon) as rabbitmq,
        tls_server("/nowhere", over) as postgres,
    ):
        amqp_url = f"amqps://u:p@localhost:{rabbitmq.port}/?certfile={client.certificate}&keyfile={client.key}"
        database_url = f"postgresql://u@127.0.0.1:{postgres.port}/d"
        found = certificates.problems(database_url, amqp_url)
        later = certificates.problems(database_url, amqp_url, now=datetime.now(UTC) + LONG)
        plain = certificates.problems(f"{database_url}?sslmode=disable", "amqp://u:p@localhost:1/")
    assert found.keys() == {"client certificate for RabbitMQ", "certificate of Postgres"}
    assert found["client certificate for RabbitMQ"].startswith(f"ends: {client.certificate}, 20")
    assert found["certificate of Postgres"].startswith(f"ended: 127.0.0.1:{postgres.port}, 20")
    assert later["certificate of RabbitMQ"].startswith(f"ended: localhost:{rabbitmq.port}, 20") and plain == {}
    files = f"postgresql://u@/d?host={tmp_path}&sslcert={client.certificate}&sslrootcert={soon.file}"
    assert certificates.problems(files, "amqp://u:p@localhost:1/").keys() == {
        "client certificate for Postgres", "authority of Postgres",
    }  # fmt: skip


def has_problems(status: InstallationStatus) -> bool:
    return any(process.problems for process in status.processes)


def test_the_doctor_says_what_a_relay_sees(own: Installation, tmp_path: Path) -> None:
    of_database = conninfo_to_dict(own.database_url)
    socket = f"{of_database['host']}/.s.PGSQL.{of_database.get('port') or 5432}"
    with tls_server(socket, Authority(tmp_path).certificate("127.0.0.1")) as postgres:
        url = f"postgresql://stint@127.0.0.1:{postgres.port}/{of_database['dbname']}?sslmode=require&gssencmode=disable"
        settings = Settings(database_url=url, amqp_url=own.amqp_url, secret_key=SecretStr("x" * 32), stint_queue_type="classic")

        async def seen() -> InstallationStatus:
            relay = asyncio.create_task(Relay(settings).run())
            try:
                async with asyncio.timeout(30), await connect(settings) as conn:
                    while not has_problems(status := await read(conn, settings)):  # noqa: ASYNC110 - there is no event
                        await asyncio.sleep(0.1)
                    return status
            finally:
                relay.cancel()

        status = asyncio.run(seen())
    [found] = [finding for finding in diagnose(status) if "certificate" in finding.what]
    assert found.what.startswith(f"A certificate ends soon: the certificate of Postgres at 127.0.0.1:{postgres.port}, 20")
    assert "restart Stint" in found.do and not any("Postgres " in finding.what[:9] for finding in diagnose(status))
