"""Access that ends while its user sends requests to every process: each request that is sent after the answer is refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.auth import auth
from schemas.identity.users import User
from schemas.postgres.connection import Connection, connect
from tests.identity.tokens import Mint
from tests.support import firm_rows
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.in_process import InProcess, in_process, json_exchange
from tests.support.installation import Installation
from tests.support.sizes import REMOVALS

AT_ONCE = 50
BUSY = 503  # on a machine that stalls: nothing was changed, and the same request is sent again
PAUSE_SECONDS = 0.3  # between two requests of a client: shorter than a lease, so that there is one at each process


@dataclass
class Client:
    """A connection to one process, on which one user sends one request after another."""

    port: int
    path: str
    token: str

    def __post_init__(self) -> None:
        self.must_be_refused = asyncio.Event()
        self.refused_with = 0
        self.accepted = asyncio.Event()

    async def run(self) -> None:
        """Returns with the answer to the first request that is sent after `must_be_refused`."""
        async with opened(self.port) as send:
            while True:
                is_last = self.must_be_refused.is_set()
                status, _ = await send("GET", self.path, self.token)
                if is_last and status != BUSY:
                    self.refused_with = status
                    return
                if status == 200:
                    self.accepted.set()
                with_event = asyncio.create_task(self.must_be_refused.wait())
                await asyncio.wait({with_event}, timeout=PAUSE_SECONDS)
                with_event.cancel()


Send = Callable[..., Awaitable[tuple[int, bytes]]]


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[Send]:
    """A function that sends a request on one connection, and returns the status and the body of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send(method: str, path: str, token: str) -> tuple[int, bytes]:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        return int(head.split(b" ", 2)[1]), body

    try:
        yield send
    finally:
        writer.close()


async def until_free(send: Send, *request: str) -> tuple[int, bytes]:
    while True:
        answer = await send(*request)
        if answer[0] != BUSY:
            return answer
        await asyncio.sleep(1)  # its Retry-After


@dataclass(frozen=True)
class Case:
    """A user, the route that they ask, what ends their access to it, and the refusal."""

    token: str
    end: Callable[[], Awaitable[None]]
    path: str = "/api/me"
    refusal: int = 401


class Firm:
    """Users of a firm with two API processes, and how each of them loses access."""

    def __init__(self, apis: list[Installation], conn: Connection, admin: str) -> None:
        self.apis, self._conn, self._admin, self._mint = apis, conn, admin, Mint(apis[0])
        self.first_answers: list[Awaitable[None]] = []

    def _token(self, user: User, **claims: Any) -> str:
        return self._mint.token(sub=str(user.id), email=user.email, name=user.name, access_version=0, **claims)

    async def _user(self, role: str, customer: UUID | None = None) -> User:
        email = f"{uuid4().hex}@example.com"
        return await firm_rows.user(self._conn, role, customer_id=customer, joined_at="2026-01-01", email=email)

    def _request(self, method: str, path: str, token: str) -> Callable[[], Awaitable[None]]:
        async def end() -> None:
            async with opened(self.apis[0].port) as send:
                answer = await until_free(send, method, path, token)
                assert answer[0] == 204, answer

        return end

    def _second(self, method: str, path: str, token: str, *, committed: str, told: set[int]) -> Callable[[], Awaitable[None]]:
        """The same request twice: the second one is sent when the first one has committed, and mostly not been answered yet.
        Access has ended when the second one is answered."""
        first = self._request(method, path, token)

        async def end() -> None:
            self.first_answers.append(asyncio.ensure_future(first()))
            async with await connect(self.apis[0].settings) as conn:
                while not await conn.value(f"SELECT {committed}"):  # noqa: ASYNC110 - it is another process that commits
                    await asyncio.sleep(0.02)
            async with opened(self.apis[0].port) as send:
                status, _ = await until_free(send, method, path, token)
                assert status in told

        return end

    async def told_twice(self) -> list[Case]:
        """Users of whose removal, deletion or sign-out somebody else is told who wants the same."""
        rows, deleted = await firm_rows.firm(self._conn), await firm_rows.firm(self._conn)
        removed, of_deleted = (
            await self._user("customer_user", rows.customer), await self._user("customer_user", deleted.customer)
        )  # fmt: skip
        leaver = await self._user("internal_user")
        tokens = [self._token(user, role="customer_user", customer=str(user.customer_id)) for user in (removed, of_deleted)]
        token = self._token(leaver, role="internal_user")
        revoked = "(SELECT revoked_at IS NOT NULL FROM users WHERE id = '{}')"
        path = f"/api/customers/{rows.customer}/users/{removed.id}"
        end = [
            self._second("DELETE", path, self._admin, committed=revoked.format(removed.id), told={404}),
            self._second(
                "DELETE", f"/api/customers/{deleted.customer}", self._admin,
                committed=revoked.format(of_deleted.id), told={404},
            ),
            self._second(
                "POST", "/auth/sign-out", token, told={204, 401},
                committed=f"(SELECT sessions_after IS NOT NULL FROM users WHERE id = '{leaver.id}')",
            ),
        ]  # fmt: skip
        return [Case(of, ends) for of, ends in zip([*tokens, token], end, strict=True)]

    async def removed(self, count: int) -> list[Case]:
        """Customers' users that an admin removes."""
        customer = (await firm_rows.firm(self._conn)).customer
        users = [await self._user("customer_user", customer) for _ in range(count)]
        return [
            Case(
                self._token(user, role="customer_user", customer=str(customer)),
                self._request("DELETE", f"/api/customers/{customer}/users/{user.id}", self._admin),
            )
            for user in users
        ]

    async def customer_deleted(self) -> Case:
        """A customer's user whose customer is deleted."""
        rows = await firm_rows.firm(self._conn)
        user = await self._user("customer_admin", rows.customer)
        token = self._token(user, role="customer_admin", customer=str(rows.customer))
        return Case(token, self._request("DELETE", f"/api/customers/{rows.customer}", self._admin))

    async def signed_out(self) -> Case:
        """A user who signs out on another device."""
        token = self._token(await self._user("internal_user"), role="internal_user")
        return Case(token, self._request("POST", "/auth/sign-out", token))

    async def by_command(self, *words: str, path: str = "/api/me", refusal: int = 401) -> Case:
        """An admin whose access a command ends, or narrows."""
        user = await self._user("internal_admin")

        async def end() -> None:
            command = [words[0], words[1], user.email, *words[2:]]
            done = await asyncio.to_thread(self.apis[0].command, *command)
            assert done.returncode == 0, done.stderr

        return Case(self._token(user, role="internal_admin"), end, path, refusal)

    async def newer_token(self) -> Case:
        """A customer's user whose newer token names another customer. Tokens of an older version name no access version."""
        here, there, user = (await firm_rows.firm(self._conn)).customer, (await firm_rows.firm(self._conn)).customer, uuid4()
        old, new = (
            self._mint.token(
                sub=str(user), email="jo@example.com", name="Jo", role="customer_user", customer=str(customer), iat=at
            )
            for customer, at in ((here, 1_700_000_000), (there, 1_800_000_000 - 90_000_000))
        )

        async def end() -> None:
            async with opened(self.apis[0].port) as send:
                answer = await until_free(send, "GET", "/api/me", new)
                assert (answer[0], json.loads(answer[1])["customerId"]) == (200, str(there))

        return Case(old, end)


async def _statuses_after(firm: Firm, case: Case) -> list[int]:
    """What each process answers to the first request after the end of access, while the user sends requests all the time."""
    clients = [Client(api.port, case.path, case.token) for api in firm.apis for _ in range(2)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client, task in zip(clients, running, strict=True):
        accepted = asyncio.create_task(client.accepted.wait())
        await asyncio.wait({accepted, task}, return_when=asyncio.FIRST_COMPLETED)
    await case.end()
    for client in clients:
        client.must_be_refused.set()
    await asyncio.gather(*running)
    return [client.refused_with for client in clients]


def test_a_request_after_the_end_of_access_is_refused_by_every_process(
    given: Given, stint: Installation, another: Another
) -> None:
    apis = [stint, another(PUBLIC_URL="http://second.example.com")]
    admin = given.admin().token

    async def run() -> list[tuple[int, int]]:
        async with await connect(stint.settings) as conn:
            firm = Firm(apis, conn, admin)
            cases = [
                *await firm.removed(REMOVALS),
                *[await firm.customer_deleted() for _ in range(4)],
                *[await firm.signed_out() for _ in range(4)],
                *[await firm.newer_token() for _ in range(4)],
                *await firm.told_twice(),
                *await firm.told_twice(),
                await firm.by_command("user", "remove"),
                await firm.by_command("user", "sign-out"),
                await firm.by_command("user", "add", "--role", "internal_user", path="/api/dead-letters", refusal=403),
            ]
        places = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case) -> list[tuple[int, int]]:
            async with places:
                return [(status, case.refusal) for status in await _statuses_after(firm, case)]

        pairs = [pair for pairs in await asyncio.gather(*map(one, cases)) for pair in pairs]
        await asyncio.gather(*firm.first_answers)
        return pairs

    answered = asyncio.run(run())
    assert len(answered) == 4 * (REMOVALS + 21)
    assert [pair for pair in answered if pair[0] != pair[1]] == []


def test_who_is_refused_because_access_has_ended_already_is_told_so_late_where_access_is_ended(
    given: Given, stint: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that did not get the answer to its sign-out repeats it, and its 401 says that it is signed out everywhere."""
    waits = []

    async def wait() -> None:
        waits.append("waited")

    monkeypatch.setattr(auth, "wait_for_leases", wait)
    signed_out = given.person()
    customer = given.customer(given.admin())
    removed = given.person("customer_admin", customer["id"])
    own = f"/api/customers/{customer['id']}/users/{removed.id}"
    stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", removed.id)
    signed_out.http.post("/auth/sign-out").raise_for_status()

    async def waits_of(api: InProcess, method: str, path: str, token: str) -> int:
        exchange = json_exchange(method, path, token=token)
        waits.clear()
        await api.request(exchange)
        assert exchange.status == 401
        return len(waits)

    async def run() -> list[int]:
        async with in_process(stint.settings) as api:
            return [
                await waits_of(api, "POST", "/auth/sign-out", signed_out.token),
                await waits_of(api, "DELETE", own, removed.token),
                await waits_of(api, "GET", "/api/me", signed_out.token),
                await waits_of(api, "POST", "/auth/sign-out", "not.a.token"),
            ]

    assert asyncio.run(run()) == [1, 1, 0, 0]
