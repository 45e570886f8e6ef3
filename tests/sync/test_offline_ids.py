"""The ids that clients make while they are offline: those of other users' rows are taken."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from schemas.errors import Conflict
from schemas.hours.timer_stops import Stop
from schemas.postgres.connection import Connection
from schemas.sync import offline_timers
from schemas.sync.offline_timers import OfflineStop
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import new_database

START = (datetime.now(UTC) - timedelta(hours=2)).replace(microsecond=0)
STOP = {"startTime": START.isoformat(), "endTime": (START + timedelta(hours=1)).isoformat()}


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def stop(conn: Connection, rows: FirmRows, timer_id: UUID) -> Stop:
    async with conn.transaction():
        body = OfflineStop.model_validate({"id": str(timer_id), "taskId": str(rows.task), **STOP})
        return await offline_timers.stop(conn, body, None, user_id=rows.user)


@pytest.mark.parametrize("of", ["entry", "timer", "unfinished stop"])
def test_an_id_of_another_user_is_taken(of: str, url: str) -> None:
    async def check(conn: Connection) -> bool:
        theirs, own, taken = await firm_rows.firm(conn), await firm_rows.firm(conn), uuid4()
        if of == "entry":
            await firm_rows.entry(conn, theirs, None, id=taken, start_time=START, end_time=START + timedelta(hours=1))
        elif of == "timer":
            timer = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, %s, %s, %s)"
            await conn.execute(timer, (theirs.user, taken, theirs.task, START))
        else:
            await stop(conn, theirs, taken)
        with pytest.raises(Conflict, match="choose a new one") as refused:
            await stop(conn, own, taken)
        assert refused.value.facts == {}, "nothing of the other user's row is shown"
        return (await stop(conn, own, free := uuid4())).entry_id == free

    assert over(url, check) is True
