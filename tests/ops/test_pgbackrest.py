"""docs/operations.md, To any moment: its configuration and commands, with Debian's pgBackRest and a Postgres that it knows."""

import asyncio
import os
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.up.packages.debian import Packages, can_download, unpacked
from ops.up.processes import PLAIN_ENVIRONMENT, unprivileged_account
from tests.support.clusters import Cluster, clusters
from tests.support.installation import CHECKOUT, eventually

PACKAGES = Packages("pgbackrest", ["pgbackrest", "postgresql-15"], megabytes=20, with_dependencies=True)
SECTION = (CHECKOUT / "docs/operations.md").read_text().partition("### To any moment: pgBackRest")[2].partition("\n##")[0]
CONFIGURATION, SETTINGS = re.findall(r"^```ini\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
DAILY, TO_A_MOMENT = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.processes]


class PgBackRest:
    """The program, which reads the configuration of the page with other paths, as Postgres's account."""

    def __init__(self, root: Path, home: Path, cluster: Cluster) -> None:
        libraries = ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu"))
        own = {"repo1-path": home / "repo", "pg1-path": cluster.data}
        text = "\n".join(
            f"{name}={own[name]}" if (name := line.partition("=")[0]) in own else line for line in CONFIGURATION.splitlines()
        )
        (home / "pgbackrest.conf").write_text(text)
        self.program = home / "pgbackrest"
        options = {
            "CONFIG": home / "pgbackrest.conf", "LOG_PATH": home, "LOCK_PATH": home, "SPOOL_PATH": home, "CMD": self.program,
            "PG1_USER": "stint", "PG1_DATABASE": "postgres", "PG1_SOCKET_PATH": cluster.sockets,
        }  # fmt: skip
        exported = "\n".join(f"export PGBACKREST_{name}={shlex.quote(str(value))}" for name, value in options.items())
        self.program.write_text(
            f'#!/bin/sh\n{exported}\nexport LD_LIBRARY_PATH={libraries}\nexec {root}/usr/bin/pgbackrest "$@"\n'
        )
        self.program.chmod(0o755)
        self._home = home

    def run(self, lines: str) -> None:
        """Runs commands of the page."""
        account = unprivileged_account()
        done = subprocess.run(
            ["/bin/sh", "-eux", "-c", lines],
            env=PLAIN_ENVIRONMENT | {"PATH": f"{self._home}:{os.environ['PATH']}"},
            cwd=self._home,
            capture_output=True,
            text=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(not can_download(), reason="Debian's packages cannot be downloaded here")
def test_postgres_is_restored_to_a_moment_as_the_page_says(tmp_path: Path) -> None:
    root = asyncio.run(unpacked(PACKAGES, tmp_path, print))
    with clusters() as made:
        cluster = made.keep(Cluster(made.home / "main", programs=_readable(root, made.home) / "usr/lib/postgresql/15/bin"))
        program = PgBackRest(_readable(root, made.home), made.home, cluster)
        (made.home / "repo").mkdir(mode=0o777)
        (made.home / "repo").chmod(0o777)
        cluster.create("listen_addresses = ''", *SETTINGS.replace("'pgbackrest ", f"'{program.program} ").splitlines())
        cluster.start().with_stint()
        program.run(DAILY)
        with cluster.sql() as conn:
            conn.execute("SELECT pg_sleep(1.1)")  # pgBackRest counts whole seconds
            conn.execute("INSERT INTO rate_limits VALUES ('before', now())")
        moment = cluster.value("SELECT clock_timestamp()")
        assert isinstance(moment, datetime)
        with cluster.sql() as conn:
            conn.execute("INSERT INTO rate_limits VALUES ('after', now())")
            conn.execute("SELECT pg_switch_wal()")
        cluster.stop()

        program.run(TO_A_MOMENT.replace("2026-11-23 17:30:00+00", str(moment.astimezone(UTC))))
        cluster.start()
        eventually(lambda: not cluster.value("SELECT pg_is_in_recovery()"), seconds=60)
        assert cluster.value("SELECT array_agg(key) FROM rate_limits WHERE key IN ('before', 'after')") == ["before"]


def _readable(root: Path, home: Path) -> Path:
    """The unpacked packages, where Postgres's account can read them."""
    link = home / "packages"
    if not link.exists():
        subprocess.run(["cp", "-a", root, link], check=True)
    return link
