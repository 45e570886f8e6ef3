"""A primary of Postgres with a synchronous standby, and what Patroni does with them, done by tests.

Stint is not told which one is the primary: DATABASE_URL has both."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cluster.network import Host, Network
from tests.faults.drill.disk import fill
from tests.support.clusters import Cluster
from tests.support.installation import eventually

PORT = 5432
DISK_MEGABYTES = 1_500
SETTINGS = """
max_connections = 200
max_wal_senders = 5
wal_keep_size = 256MB
max_wal_size = 512MB
hot_standby = on
wal_sender_timeout = 10s
wal_receiver_timeout = 10s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 1s
"""
ADMITTED = """
local all all trust
local replication all trust
host all all 10.77.0.0/16 trust
host replication all 10.77.0.0/16 trust
host all all 127.0.0.0/8 trust
host replication all 127.0.0.0/8 trust
"""


class Databases:
    """Data on hosts a and b. `primary` is the name of the host that accepts writes."""

    def __init__(self, home: Path, network: Network) -> None:
        self.hosts = {name: network.hosts[name] for name in "ab"}
        self.home = home / "databases"
        self.home.mkdir(mode=0o711)
        self.clusters: dict[str, Cluster] = {}
        self.primary = "a"
        self._disks: list[Path] = []
        if network.can_cut:  # as root
            for name in self.hosts:
                self._mount(self.home / name)

    def _mount(self, directory: Path) -> None:
        """A small file system for the data of a host. Only this process and what it starts see it."""
        directory.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=700", "tmpfs", str(directory)]
        subprocess.run(mount, check=True)
        self._disks.append(directory)

    @property
    def url(self) -> str:
        """DATABASE_URL, with both."""
        return f"postgresql://stint@{','.join(f'{host.address}:{PORT}' for host in self.hosts.values())}/stint"

    def start(self) -> None:
        self.clusters["a"] = made = Cluster(self.home / "a").create(SETTINGS, self._listening(self.hosts["a"]))
        (made.data / "pg_hba.conf").write_text(ADMITTED)
        self._launch("a")
        made.with_stint()
        self.add_standby("b")

    def add_standby(self, name: str) -> None:
        """A new copy of the primary, on a host without data: from now on a commit waits for it."""
        primary, data = self.clusters[self.primary], self.home / name
        shutil.rmtree(data, ignore_errors=True)
        source = f"primary_conninfo = 'host={self.hosts[self.primary].address} port={PORT} user=stint application_name={name}'"
        self.clusters[name] = standby = primary.base_backup(name, self._listening(self.hosts[name]), source)
        standby.touch("standby.signal")
        self._launch(name)
        self.replicate("*")

    def replicate(self, names: str) -> None:
        """Sets what commits wait for, and returns when they do. Patroni stops waiting when it has no standby."""
        with self.clusters[self.primary].sql() as conn:
            conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            conn.execute("SELECT pg_reload_conf()")
        if names:
            streaming = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state <> 'async'"
            eventually(lambda: self.clusters[self.primary].value(streaming), seconds=30, why="the standby is synchronous")

    def fail_over(self) -> None:
        """The old primary has ended, or ends here, before the standby becomes the new one."""
        old, new = self.primary, self.standby
        self.kill(old)
        self.clusters[new].run("pg_ctl", "promote", "-D", self.clusters[new].data, "-w")
        self.primary = new
        self.replicate("")

    def switch_over(self) -> None:
        """Planned: the primary ends properly, and becomes the standby."""
        old, new = self.primary, self.standby
        self.clusters[old].stop()
        self.fail_over()
        assert self.primary == new
        self.add_standby(old)

    @property
    def standby(self) -> str:
        return "b" if self.primary == "a" else "a"

    def kill(self, name: str) -> None:
        """All its processes, at once. Nothing if it has ended."""
        if self.clusters[name].pids():
            self.clusters[name].crash()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To all its processes."""
        self.clusters[name].signal(number)

    def fill_disk(self) -> Callable[[], None]:
        """Leaves no space for the data of the primary. What this returns frees it, and starts Postgres if it has ended for want
        of it, as Patroni does."""
        name = self.primary
        ballast = fill(self.home / name)

        def free() -> None:
            ballast.unlink()
            if not self.clusters[name].is_running():
                self._launch(name)

        return free

    def restart(self, name: str) -> None:
        self.clusters[name].stop()
        self._launch(name)

    def stop(self) -> None:
        for cluster in self.clusters.values():
            cluster.close()
        for disk in self._disks:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def _launch(self, name: str) -> None:
        with self.hosts[name].inside():
            self.clusters[name].start()

    def _listening(self, host: Host) -> str:
        return f"listen_addresses = '{host.address}'\nport = {PORT}"
