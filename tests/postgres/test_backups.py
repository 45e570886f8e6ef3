"""A backup that is not made any more is noticed."""

from datetime import UTC, datetime, timedelta

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.postgres import backups
from schemas.postgres.connection import Connection
from tests.outbox.rows import over
from tests.support.installation import new_database


def test_the_last_backup_is_too_old_after_the_days_of_the_setting_or_two(database_url: str) -> None:
    url, now = new_database(database_url), datetime.now(UTC)

    def read(max_age_days: float | None) -> backups.LastBackup:
        return over(url, lambda conn: backups.read(conn, max_age_days=max_age_days))

    def record(days: float, place: str) -> None:
        async def write(conn: Connection) -> None:
            await backups.record(conn, made_at=now - timedelta(days=days), place=place)

        over(url, write)

    def found(backup: backups.LastBackup) -> list[str]:
        return [
            each.what
            for each in diagnose(InstallationStatus(servers={"Postgres": "ok"}, backup=backup))
            if "backup" in each.what
        ]

    def ages(backup: backups.LastBackup) -> list[str]:
        return [line.rpartition(" ")[2] for line in backups.lines(backup) if not line.startswith("#")]

    # nobody expects one
    assert not read(None).is_late and found(read(None)) == [] and ages(read(None)) == []
    assert found(read(1)) == ["The last backup is too old: none was made."] and ages(read(1)) == ["+Inf", "86400"]

    record(3, "backups/a")
    assert found(read(None)) == found(read(1)) == ["The last backup is too old: 3.0 days, at backups/a."]
    assert found(read(4)) == []
    record(1.5, "backups/b")
    record(9, "backups/c")  # it began earlier, and ended later
    assert read(None).place == "backups/b" and found(read(None)) == [] and read(1).is_late
    age, most = ages(read(None))
    assert 129_599 < int(age) < 130_000 and most == "172800"
