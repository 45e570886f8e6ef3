"""What a process may use of a user without reading it again, for how long, and which changes wait for that (decision 38)."""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4
from weakref import ref

import psycopg
import pytest
from pydantic import SecretStr

from api.auth.auth import Authenticator
from api.auth.leases import MAX_AGE_SECONDS, Leases
from api.auth.tokens import Token
from schemas.customers import customer_users, customers
from schemas.errors import NotFound
from schemas.identity import local_accounts, users
from schemas.identity.provider import LocalProvider
from schemas.identity.users import Role, Statement, User, find_user
from schemas.postgres import connection, pool
from schemas.postgres.connection import LEASE_SECONDS, Connection, connect
from schemas.postgres.pool import Database
from schemas.settings import Settings
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database

EXPIRES = 2_000_000_000.0


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def settings_of(url: str) -> Settings:
    return Settings(database_url=url, secret_key=SecretStr(SECRET_KEY), internal_client_ids="stint", legacy_unset_role="on")


class Reads:
    """A database that answers `find_user`, and lets `seconds` pass before it does."""

    reports_changes, migrates = True, False

    def __init__(self, *, seconds: float = 0.0, **user: Any) -> None:
        self.now, self.seconds, self.reads = 100.0, seconds, 0
        self.user: dict[str, Any] = {
            "email": "jo@example.com", "name": "Jo", "role": "internal_user", "customer_id": None, "joined": True,
            "revoked": False, "claims_at": 0.0, "access_version": 0, "sessions_after": None, "access_since": None,
        } | user  # fmt: skip

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Reads"]:
        yield self

    async def one(self, _query: str, _parameters: Any) -> tuple[Any, ...]:
        self.reads += 1
        self.now += self.seconds
        self.reports_changes |= self.migrates
        return True, [], EXPIRES - 10_000, *self.user.values()

    async def value(self, _query: str) -> bool:
        return self.reports_changes

    async def execute(self, _query: str, _parameters: Any) -> None:
        """A write."""


class Requests:
    """The requests of one token at an authenticator whose clock is that of `reads`."""

    def __init__(self, reads: Reads, **token: Any) -> None:
        claims: dict[str, Any] = {"role": "internal_user", "access_version": 0, "expires": EXPIRES} | token
        self.reads, self.token = reads, Token(uuid4(), "id", "stint", "jo@example.com", "Jo", customer_id=None, **claims)
        self._authenticator = Authenticator(settings_of("postgresql://"), LocalProvider(None))
        self._authenticator.leases = Leases(lambda: self.reads.now)
        self._authenticator._verifier.verify = self._verify  # type: ignore[method-assign,assignment]

    async def _verify(self, _text: str) -> Token:
        return self.token

    def __call__(self, *, later: float = 0.0) -> int:
        """How many reads there were, after one more request `later` seconds later."""
        self.reads.now += later
        self.session = asyncio.run(self._authenticator.authenticate(self.reads, "x"))  # type: ignore[arg-type]
        return self.reads.reads


def test_a_user_who_was_read_is_not_read_again_for_less_than_a_second() -> None:
    request = Requests(Reads())
    assert [request(), request(), request(later=MAX_AGE_SECONDS - 0.01), request(later=0.02)] == [1, 1, 1, 2]


def test_the_time_counts_from_before_the_read_was_sent() -> None:
    request = Requests(Reads(seconds=0.5))
    assert [request(), request(later=MAX_AGE_SECONDS - 0.51), request(later=0.02)] == [1, 1, 2]
    slow = Requests(Reads(seconds=1.0))
    assert [slow(), slow(), slow()] == [1, 2, 3]


def test_a_token_is_not_accepted_after_it_has_expired() -> None:
    request = Requests(Reads(), expires=EXPIRES - 10_000 + 0.3)  # in 0.3 s, by the clock of the database
    assert [request(), request(later=0.29)] == [1, 1]
    assert request(later=0.02) == 2  # read again, which refuses it


def test_the_age_of_a_lease_includes_the_time_in_which_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_MONOTONIC: 1.0, getattr(time, "CLOCK_BOOTTIME", -1): 7.0}.get)
    assert Leases().clock() == (7.0 if sys.platform == "linux" else 1.0)


def test_the_end_of_a_session_is_by_the_clock_that_streams_of_live_events_compare_it_with() -> None:
    request = Requests(Reads())  # whose own clock shows 100 s
    before = time.monotonic()
    assert request() == 1
    assert before <= request.session.ends_at - 10_000 <= time.monotonic()


def test_there_are_no_leases_before_the_database_reports_changes() -> None:
    request = Requests(Reads())
    request.reads.reports_changes = False
    assert [request(), request()] == [1, 2]
    request.reads.migrates = True  # while it is read: perhaps after a change that was not reported
    assert [request(), request(), request()] == [3, 4, 4]


@pytest.mark.parametrize(
    "without",
    [
        "DROP TRIGGER report_access_change ON users",
        "DROP TRIGGER report_access_change ON customers",
        "DROP TRIGGER report_removal ON users",
        "DROP FUNCTION report_access_change CASCADE",
    ],
)
def test_a_database_without_all_triggers_reports_nothing(without: str, url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, bool]:
        async with conn.transaction(force_rollback=True):
            before = await users.changes_are_reported(conn)
            await conn.execute(without)
            return before, await users.changes_are_reported(conn)

    assert over(url, check) == (True, False)


@pytest.mark.parametrize(
    ("user", "token"),
    [
        ({"joined": False}, {}),  # the first request is stored
        ({"name": "Jim"}, {"access_version": None, "issued": 10.0}),  # what the token says is stored
        ({"role": None}, {"role": None, "access_version": None}),  # perhaps a legacy admin
    ],
)
def test_a_request_that_stores_something_and_a_token_without_a_role_get_no_lease(
    user: dict[str, Any], token: dict[str, Any]
) -> None:
    request = Requests(Reads(**user), **token)
    assert [request(), request()] == [1, 2]


# Which changes wait


OTHERS: dict[str, Any] = {"uuid": uuid4(), "text": "other", "timestamptz": "2026-03-04T00:00:00Z", "bool": True, "int4": 7}


async def _columns(conn: Connection, table: str) -> list[tuple[str, str]]:
    return await conn.all(
        """
        SELECT column_name::text, udt_name::text FROM information_schema.columns
        WHERE table_name = %s AND column_name <> 'id'
        """,
        (table,),
    )


async def _refusing(conn: Connection, user: UUID) -> tuple[Any, ...]:
    """What `find_user` reads, without what alone refuses nobody."""
    found = await find_user(conn, user, None)
    assert found.user is not None
    return replace(found.user, joined=True, claims_at=0.0), found.deleted_customers


async def _is_reported(conn: Connection, table: str, column: str, kind: str, row: UUID, customer: UUID) -> bool:
    conn.access_changed = False
    value = customer if column == "customer_id" else OTHERS.get(kind)
    await conn.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", (value, row))
    return conn.access_changed


def test_each_column_that_authorization_reads_is_reported_when_it_changes(url: str) -> None:
    """Whatever `find_user` reads: also a column that it reads from tomorrow on."""

    async def check(conn: Connection) -> tuple[set[str], set[str]]:
        read, reported = set(), set()
        other_customer = (await firm_rows.firm(conn)).customer
        for table in ("users", "customers"):
            for column, kind in await _columns(conn, table):
                rows = await firm_rows.firm(conn)
                user = await firm_rows.user(conn, "customer_user", customer_id=rows.customer)
                before = await _refusing(conn, user.id)
                async with conn.transaction(force_rollback=True):
                    try:
                        row = user.id if table == "users" else rows.customer
                        async with conn.transaction():
                            is_reported = await _is_reported(conn, table, column, kind, row, other_customer)
                    except psycopg.Error:  # a constraint, or a column that is generated
                        continue
                    if await _refusing(conn, user.id) != before:
                        read.add(f"{table}.{column}")
                    if is_reported:
                        reported.add(f"{table}.{column}")
        return read, reported

    read, reported = over(url, check)
    assert read <= reported
    assert {"users.role", "users.customer_id", "users.revoked_at", "users.sessions_after", "users.name"} <= read
    assert "customers.deleted_at" in read
    assert not {"users.joined_at", "users.invited_at", "customers.name", "customers.version"} & reported


async def _remove(conn: Connection, user: UUID) -> None:
    await local_accounts.remove(conn, user)


async def _restate(conn: Connection, user: UUID) -> None:
    await users.save_statement(conn, user, Statement("jo@example.com", "Jo", "visitor", None, time.time() + 60))


async def _delete(conn: Connection, user: UUID) -> None:
    customer = await conn.value("SELECT customer_id FROM users WHERE id = %s", (user,))
    await customers.delete(conn, customer, version=None)


CHANGES: dict[str, Callable[[Connection, UUID], Awaitable[None]]] = {
    "removed": _remove,
    "signed out": users.end_sessions,
    "a newer token": _restate,
    "the customer deleted": _delete,
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("by", ["a request", "a command"])
def test_after_the_commit_of_a_change_of_access_its_caller_waits(
    by: str, kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a connection of the pool."""

    async def run() -> None:
        settings = settings_of(url)
        database = Database(settings)
        await database.open()
        async with database.connection() as conn:
            rows = await firm_rows.firm(conn)
            user = (await firm_rows.user(conn, "customer_user", customer_id=rows.customer)).id
        before, waits = await _access_of(settings, user), []

        async def wait() -> None:
            waits.append((await _access_of(settings, user) != before, [pool.in_use for pool in database.pools()]))

        monkeypatch.setattr(pool, "wait_for_leases", wait)
        monkeypatch.setattr(connection, "wait_for_leases", wait)
        if by == "a request":
            async with database.transaction() as conn:
                await CHANGES[kind](conn, user)
        else:
            async with await connect(settings) as conn, conn.transaction():
                await CHANGES[kind](conn, user)
        assert waits == [(True, [0, 0])]
        async with database.transaction() as conn:  # perhaps the same connection
            await users.save_first_request(conn, user)
        assert len(waits) == 1
        await database.close()

    asyncio.run(run())


async def _remove_customer_user(conn: Connection, user: UUID) -> None:
    customer = await conn.value("SELECT customer_id FROM users WHERE id = %s", (user,))
    await customer_users.remove(conn, customer, user, by=await firm_rows.user(conn), settings=settings_of("postgresql://"))


async def _change(conn: Connection, user: UUID) -> None:
    email = await conn.value("SELECT email FROM users WHERE id = %s", (user,))
    account = await local_accounts.find(conn, email)
    assert account is not None
    await local_accounts.change(conn, account, role="internal_user")


AGAIN: dict[str, Callable[[Connection, UUID], Awaitable[None]]] = {
    "removed by a command": _remove,
    "removed by an admin": _remove_customer_user,
    "the customer deleted": _delete,
    "another role by a command": _change,
}


@pytest.mark.parametrize("kind", AGAIN)
@pytest.mark.parametrize("by", ["a request", "a command"])
def test_who_finds_that_access_was_changed_already_waits_too(
    by: str, kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client that changed it may wait still. There is nothing to wait for where nothing was ever changed."""
    waits = []

    async def wait() -> None:
        waits.append("waited")

    monkeypatch.setattr(pool, "wait_for_leases", wait)
    monkeypatch.setattr(connection, "wait_for_leases", wait)

    async def run(stack: AsyncExitStack) -> None:
        settings = settings_of(url)
        database = Database(settings)

        async def waits_of(work: Callable[[Connection], Awaitable[None]]) -> int:
            waits.clear()
            with suppress(NotFound):
                if by == "a request":
                    async with database.transaction() as conn:
                        await work(conn)
                else:
                    async with await connect(settings) as conn, conn.transaction():
                        await work(conn)
            return len(waits)

        await database.open()
        stack.push_async_callback(database.close)
        async with database.connection() as conn:
            rows = await firm_rows.firm(conn)
            user = (await firm_rows.user(conn, "customer_user", customer_id=rows.customer)).id
        assert [await waits_of(lambda conn: AGAIN[kind](conn, user)) for _ in range(2)] == [1, 1]
        admin = User(id=uuid4(), email="a@example.com", name="A", role=Role.admin, customer_id=None)
        unknown: list[Callable[[Connection], Awaitable[None]]] = [
            lambda conn: customer_users.remove(conn, rows.customer, uuid4(), by=admin, settings=settings),
            lambda conn: customers.delete(conn, uuid4(), version=None),
        ]
        assert [await waits_of(work) for work in unknown] == [0, 0]

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await run(stack)

    asyncio.run(main())


def test_a_customers_administrator_does_not_learn_who_was_removed_elsewhere(url: str) -> None:
    async def check(conn: Connection) -> bool:
        own, other = await firm_rows.firm(conn), await firm_rows.firm(conn)
        by = await firm_rows.user(conn, "customer_admin", customer_id=own.customer)
        removed = await firm_rows.user(conn, "customer_user", customer_id=other.customer, revoked_at="2026-03-04")
        with pytest.raises(NotFound):
            await customer_users.remove(conn, other.customer, removed.id, by=by, settings=settings_of(url))
        return conn.access_changed_before

    assert over(url, check) is False


def test_two_requests_with_the_same_news_both_wait() -> None:
    """The UPDATE of the second one changes nothing."""
    reads = Reads(name="Jim")
    Requests(reads, access_version=None, issued=10.0)()
    assert reads.access_changed_before  # type: ignore[attr-defined]


def test_a_closed_connection_is_freed_at_once(url: str) -> None:
    async def run() -> bool:
        conn = await Connection.connect(url, autocommit=True)
        await conn.close()
        closed = ref(conn)
        gc.disable()
        try:
            del conn
            return closed() is None
        finally:
            gc.enable()

    assert asyncio.run(run())


async def _access_of(settings: Settings, user: UUID) -> tuple[Any, ...]:
    async with await connect(settings) as conn:
        found = await find_user(conn, user, None)
    assert found.user is not None
    return found.user, found.deleted_customers


def test_what_is_rolled_back_does_not_wait(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    async def wait() -> None:
        waits.append("waited")

    async def run() -> None:
        database = Database(settings_of(url))
        await database.open()
        async with database.connection() as conn:
            user = await firm_rows.user(conn)
        for is_rolled_back in (True, False):
            with pytest.raises(RuntimeError):
                async with database.transaction() if is_rolled_back else database.connection() as conn:
                    await users.end_sessions(conn, user.id)
                    assert waits == []
                    raise RuntimeError
            # without a transaction the statement is committed, although an error follows
            assert waits == ([] if is_rolled_back else ["waited"])
        await database.close()

    monkeypatch.setattr(pool, "wait_for_leases", wait)
    asyncio.run(run())


def test_the_wait_is_as_long_as_a_lease() -> None:
    started = time.monotonic()
    asyncio.run(connection.wait_for_leases())
    assert time.monotonic() - started >= LEASE_SECONDS > MAX_AGE_SECONDS
