"""When the last backup was made, and whether that is too long ago."""

from dataclasses import dataclass
from datetime import datetime

from schemas.postgres.connection import Connection

DEFAULT_MAX_AGE_DAYS = 2.0  # once a backup was made: a daily one may be late by a day


@dataclass(frozen=True)
class LastBackup:
    """The last backup. `age_seconds` and `place`: None if there was none. `max_age_days`: None if nobody expects one."""

    age_seconds: float | None = None
    place: str | None = None
    max_age_days: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether a backup is expected, and there is none, or it is too old."""
        if self.max_age_days is None:
            return False
        return self.age_seconds is None or self.age_seconds > self.max_age_days * 86_400


async def record(conn: Connection, *, made_at: datetime, place: str) -> None:
    """Records a backup that has succeeded. It does not replace a later one."""
    await conn.execute(
        """
        INSERT INTO last_backup (made_at, place) VALUES (%(made_at)s, %(place)s)
        ON CONFLICT (id) DO UPDATE SET made_at = EXCLUDED.made_at, place = EXCLUDED.place
        WHERE last_backup.made_at < EXCLUDED.made_at
        """,
        {"made_at": made_at, "place": place},
    )


async def read(conn: Connection, *, max_age_days: float | None) -> LastBackup:
    """The last backup. `max_age_days`: the setting; without it DEFAULT_MAX_AGE_DAYS, if a backup was ever made."""
    found = await conn.maybe("SELECT extract(epoch FROM clock_timestamp() - made_at)::float, place FROM last_backup")
    if found is None:
        return LastBackup(max_age_days=max_age_days)
    age_seconds, place = found
    return LastBackup(age_seconds, place, max_age_days or DEFAULT_MAX_AGE_DAYS)


def lines(backup: LastBackup) -> list[str]:
    """The metrics, in Prometheus's text format. Of a backup that is expected and was never made the age is infinite."""
    age, most = backup.age_seconds, backup.max_age_days
    shown = "+Inf" if age is None else f"{age:.0f}"
    return [
        "# TYPE stint_backup_age_seconds gauge",
        *([] if most is None else [f"stint_backup_age_seconds {shown}"]),
        "# TYPE stint_backup_max_age_seconds gauge",
        *([] if most is None else [f"stint_backup_max_age_seconds {most * 86_400:.0f}"]),
    ]
