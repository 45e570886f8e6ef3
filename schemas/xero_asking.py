"""Asking Xero within a request: three seconds for all of it, or the answer is that Xero can't be asked now."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field

from schemas import xero_connection, xero_limits, xero_tokens
from schemas.base import Row
from schemas.clients import xero_identity
from schemas.clients.xero import PAGE_SIZE, Xero
from schemas.clients.xero_errors import Refused, Throttled, Unauthorized, XeroError
from schemas.clients.xero_identity import Organisation, Tokens
from schemas.database import Connection, Database
from schemas.errors import Conflict, Invalid, NotFound, Unavailable
from schemas.settings import Settings
from schemas.xero_limits import Turn

SECONDS = 3
MOST_PAGES = 4
NOT_NOW = "Xero can't be asked right now; nothing was changed. Try again in a moment."


class XeroProject(Row):
    """A project in Xero that goes on; its id is for a customer's `xeroProjectId`."""

    id: str
    name: str
    status: str


class XeroRate(Row):
    """What an hour costs."""

    currency: str
    value: Annotated[str, Field(description="a decimal number", examples=["120.00"])]


class XeroTask(Row):
    """A task of a project in Xero; its id is for a pillar's `xeroTaskId`."""

    id: str
    name: str
    rate: XeroRate | None
    status: str
    charge_type: Annotated[str | None, Field(description="`TIME`, `FIXED` or `NON_CHARGEABLE`; FIXED takes no time")]


class XeroProjects(Row):
    """The projects that there are to choose from."""

    items: list[XeroProject]


class XeroTasks(Row):
    """The tasks that there are to choose from."""

    items: list[XeroTask]


@asynccontextmanager
async def promptly() -> AsyncIterator[None]:
    """What happens in here has three seconds. Raises Unavailable, with nothing of what went wrong but that it did; Refused
    passes, since only who asked knows what it means."""
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except Throttled as error:
        raise Unavailable("Xero's limit is used up; try again later.", seconds=int(error.seconds) + 1) from None
    except (XeroError, TimeoutError) as error:
        if isinstance(error, Refused) and not isinstance(error, Unauthorized):
            raise
        raise Unavailable(NOT_NOW, seconds=5) from None


async def sign_in(settings: Settings, code: str) -> tuple[Tokens, list[Organisation]]:
    """The tokens for the code, and the organisations that they are good for. Raises Invalid for a code that is no longer good,
    Conflict when Xero does not take this app, Unavailable."""
    async with promptly():
        try:
            tokens = await xero_identity.exchange(settings, code, seconds=SECONDS)
        except Refused as error:
            if str(error) == "invalid_client":
                raise Conflict("Xero does not know this app: check XERO_CLIENT_ID and XERO_CLIENT_SECRET.") from None
            raise Invalid("code", "Xero does not take this code, or no longer; begin again at auth-url.") from None
        try:
            return tokens, await xero_identity.organisations(settings, tokens.access, seconds=SECONDS)
        except Refused:
            raise Unavailable(NOT_NOW) from None


async def disconnect(conn: Connection, settings: Settings) -> None:
    """Revokes at Xero, then forgets, in one transaction: as long as it lasts no call is begun. When Xero can't be reached it
    stays connected, since a grant that still stands must not look gone. Raises Unavailable."""
    refresh_token = await xero_tokens.refresh_token(conn, settings)
    if refresh_token is None:
        return
    async with promptly():
        try:
            await xero_identity.revoke(settings, refresh_token, seconds=SECONDS)
        except Refused:
            pass  # an answer: there is nothing left that could be revoked
    await xero_connection.forget(conn)


async def projects(database: Database, settings: Settings) -> XeroProjects:
    """The projects to choose from. Raises Conflict when Xero is not connected, Unavailable."""
    try:
        found = await _all_pages(database, settings, lambda xero, page: xero.projects(page))
    except Refused:
        raise Unavailable(NOT_NOW) from None
    return XeroProjects(
        items=[XeroProject(id=str(one.project_id), name=one.name or "", status=_word(one.status) or "") for one in found]
    )


async def tasks(database: Database, settings: Settings, project_id: str) -> XeroTasks:
    """The project's tasks. Raises NotFound when Xero has no such project, Conflict when it is not connected, Unavailable."""
    try:
        found = await _all_pages(database, settings, lambda xero, page: xero.tasks(project_id, page))
    except Refused:
        raise NotFound("Xero has no such project.") from None
    return XeroTasks(
        items=[
            XeroTask(
                id=str(one.task_id),
                name=one.name or "",
                rate=_rate(one.rate),
                status=_word(one.status) or "",
                charge_type=_word(one.charge_type),
            )
            for one in found
        ]
    )


def _word(value: Any) -> str | None:
    return None if value is None else str(getattr(value, "value", value))


def _rate(value: Any) -> XeroRate | None:
    if value is None or value.value is None:
        return None
    return XeroRate(currency=_word(value.currency) or "", value=f"{value.value:.2f}")


async def _all_pages(database: Database, settings: Settings, ask: Callable[[Xero, int], Awaitable[list[Any]]]) -> list[Any]:
    found: list[Any] = []
    async with promptly():
        for page in range(1, MOST_PAGES + 1):
            items = await _ask(database, settings, lambda xero, page=page: ask(xero, page))  # type: ignore[misc]
            found += items
            if len(items) < PAGE_SIZE:
                break
    return found


async def _ask(database: Database, settings: Settings, ask: Callable[[Xero], Awaitable[list[Any]]]) -> list[Any]:
    """One call among the limits; it takes the next place, past those who wait in line: somebody sits before a screen."""
    async with database.connection() as conn:
        access = await xero_tokens.read(conn, settings)
        if access is not None and access.token is None:
            await xero_tokens.renew(conn, settings, seconds=SECONDS)
            access = await xero_tokens.read(conn, settings)
        if access is None or access.token is None:
            raise Conflict(xero_connection.NOT_CONNECTED)
        async with conn.transaction():
            place = await xero_limits.enter(conn, access.tenant_id, settings, seconds=2 * SECONDS, waited=True)
    if isinstance(place, Turn):
        raise Throttled("no place", seconds=place.seconds)
    try:
        return await ask(Xero(settings, access_token=access.token, tenant_id=access.tenant_id, seconds=SECONDS))
    except Unauthorized:
        async with database.transaction() as conn:
            await xero_tokens.distrust(conn, access.token, settings)
        raise
    except Throttled as error:
        async with database.transaction() as conn:
            await xero_limits.pause(conn, access.tenant_id, seconds=error.seconds)
        raise
    finally:
        async with database.transaction() as conn:
            await xero_limits.leave(conn, place)
