"""PgBouncer in front of a Postgres, from Debian's package, unpacked into Stint's cache without root."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ops.up.packages.debian import Packages
from ops.up.processes import end, spawn, unprivileged_account
from tests.support.debian import system_program
from tests.support.installation import eventually, free_port

_PACKAGES = Packages("pgbouncer", ("pgbouncer",), megabytes=1, with_dependencies=True)


class HasSockets(Protocol):
    """A Postgres with a Unix socket."""

    data: Path
    sockets: Path


@contextmanager
def pgbouncer(cluster: HasSockets, *, mode: str, size: int = 20) -> Iterator[str]:
    """The URL of the database `stint` of the cluster behind a PgBouncer in that mode, with `size` connections to Postgres."""
    program, environment = system_program(_PACKAGES)
    home, account = cluster.data.with_name(f"{cluster.data.name}-pgbouncer-{mode}-{size}"), unprivileged_account()
    home.mkdir(mode=0o755)
    copied = shutil.copy(program, home / "pgbouncer")  # the account cannot read root's cache
    port = free_port()
    if "LD_LIBRARY_PATH" in environment:
        for library in Path(environment["LD_LIBRARY_PATH"].partition(":")[0]).glob("*.so*"):
            shutil.copy(library, home)
        environment = environment | {"LD_LIBRARY_PATH": str(home)}
    (home / "pgbouncer.ini").write_text(
        f"""
        [databases]
        stint = host={cluster.sockets} user=stint
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = {mode}
        default_pool_size = {size}
        max_client_conn = 200
        """
    )
    if account is not None:
        for path in (home, *home.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    process = spawn([copied, home / "pgbouncer.ini"], log=home / "log", environment=environment, account=account)
    try:
        url = f"postgresql://stint@127.0.0.1:{port}/stint"
        eventually(lambda: _accepts(port), why=f"PgBouncer listens: {home / 'log'}")
        yield url
    finally:
        end(process)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
