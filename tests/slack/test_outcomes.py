"""What became of a change whose transaction ended without an answer of Postgres."""

import asyncio
from uuid import uuid4

import pytest

from api.slack import outcomes
from api.slack.outcomes import Attempt
from schemas.postgres.connection import Connection
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.slack import deduplication
from tests.support.installation import SECRET_KEY, new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_what_was_committed_without_an_answer_is_found_and_what_was_not_never_happens(url: str) -> None:
    async def main() -> None:
        database = Database(Settings(database_url=url, secret_key=SECRET_KEY, _env_file=None), size=2)
        await database.open()
        async with await Connection.connect(url, autocommit=True) as other:
            for is_committed in (True, False):
                attempt = Attempt(f"trigger:{uuid4()}", began=True)
                await other.execute("BEGIN")
                assert await deduplication.record_once(other, attempt.key)
                looking = asyncio.create_task(outcomes.is_done(database, attempt))
                await asyncio.wait({looking}, timeout=0.1)
                assert not looking.done(), "the transaction goes on in Postgres, and may be committed"
                await other.execute(b"COMMIT" if is_committed else b"ROLLBACK")
                assert await looking is is_committed

            # one that has not recorded it yet does nothing when it comes to it
            attempt = Attempt(f"trigger:{uuid4()}", began=True)
            assert await outcomes.is_done(database, attempt) is False
            assert not await deduplication.record_once(other, attempt.key)
            assert await outcomes.is_done(database, attempt) is False, "also if the answer to the first look was lost"
            # one that never began changes nothing, and Postgres is not asked
            attempt = Attempt(f"trigger:{uuid4()}")
            assert await outcomes.is_done(database, attempt) is False
            assert await deduplication.record_once(other, attempt.key)
        await database.close()

    asyncio.run(main())


def test_without_postgres_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(outcomes, "PAUSE_SECONDS", 0.05)

    async def main() -> bool | None:
        settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", secret_key=SECRET_KEY, _env_file=None)
        database = Database(settings.model_copy(update={"stint_connect_seconds": 0.05}), size=2)
        await database.open()
        found = await outcomes.is_done(database, Attempt("trigger:1", began=True))
        said = [await outcomes.apology(database, Attempt("trigger:1", began), "Sorry", waits=True) for began in (False, True)]
        assert said == ["Sorry", outcomes.UNKNOWN]
        assert await outcomes.apology(database, Attempt("trigger:1", True), "Sorry", waits=False) == outcomes.UNKNOWN
        await database.close()
        return found

    assert asyncio.run(main()) is None
