"""What answering Slack needs: its people looked up, its deadlines kept, its forms filled, and an apology when that fails.

Slack waits 3 seconds. Whatever is down, an answer is out before that; work that is late goes on behind it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Response
from psycopg_pool import TooManyRequests

from api.requests import begun
from schemas import ledger, slack_people
from schemas.clients.slack import Profile, Slack, SlackAway, SlackRefuses
from schemas.clients.slack_views import Modal
from schemas.database import UNREACHABLE, Connection, Database
from schemas.errors import RetryLater
from schemas.messages import UpdateView
from schemas.settings import Settings
from schemas.slack_people import Caller

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

ANSWER_SECONDS = 2.0  # of the 3 that Slack waits, from when the request came: the rest is the network's, and a busy machine's
PROFILE_SECONDS = 1.0
LATE_SECONDS = 20.0  # how long work goes on behind an answer
FILL_SECONDS = 10.0  # and a call that nobody waits for

AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,  # also a statement that took too long, a lock that was not to be had
    TooManyRequests,
)

APOLOGY = "Sorry, Stint can't reach its database right now. Please try again in a minute."
SLACK_APOLOGY = "Sorry, Slack does not tell Stint who you are right now. Please try again in a minute."
ELSEWHERE = "Stint belongs to another workspace."


class Sorry(Exception):
    """Something that we depend on fails: the sentence is for whoever waits for an answer."""


@dataclass
class Desk:
    """One API process's side of Slack."""

    database: Database
    settings: Settings
    slack: Slack
    _running: set[asyncio.Task[Any]] = field(default_factory=set)
    _asking: dict[str, asyncio.Task[Profile]] = field(default_factory=dict)

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Starts work that may outlive the answer."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Sorry):
            logger.warning("while answering Slack: %s", type(error).__name__)

    async def close(self) -> None:
        """Ends what still runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def in_time(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result, if it is there in time. Raises Sorry if it is not, or if Postgres is away; late work goes on."""
        task = self.begin(self.apologizing(work))
        done, _ = await asyncio.wait({task}, timeout=time_left())
        if not done:
            raise Sorry(APOLOGY)
        return task.result()

    async def apologizing(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result. Raises Sorry when Postgres is away, or takes too long even for what goes on behind an answer."""
        try:
            async with asyncio.timeout(LATE_SECONDS):
                return await work
        except AWAY as error:
            logger.warning("Slack gets an apology: %s", type(error).__name__)
            raise Sorry(APOLOGY) from error
        except TimeoutError:
            raise Sorry(APOLOGY) from None

    async def caller(self, slack_id: str, *, team_id: str, channel_id: str | None) -> Caller:
        """Who that is, and where. Slack is asked about who was not seen for an hour; if it does not answer, what it said within
        the last day still holds. Raises Sorry without either."""

        async def look(conn: Connection) -> Caller:
            return await slack_people.find(conn, slack_id, channel_id, settings=self.settings)

        try:
            if team_id != await self.slack.team(seconds=PROFILE_SECONDS):
                return Caller(slack_id, None, ELSEWHERE, None, fresh=True)
        except (SlackAway, SlackRefuses, RetryLater) as error:
            logger.warning("Slack does not say which workspace is ours: %s", error)
            raise Sorry(SLACK_APOLOGY) from error
        found = await self.read(look)
        if found.fresh:
            return found
        try:
            profile = await self._profile(slack_id, team_id)
        except (SlackAway, SlackRefuses, RetryLater) as error:
            logger.warning("Slack does not say who somebody is: %s", error)
            if found.is_known:
                return found
            raise Sorry(SLACK_APOLOGY) from error

        async def keep(conn: Connection) -> Caller:
            await slack_people.remember(conn, profile)
            return await look(conn)

        return await self.read(keep)

    async def _profile(self, slack_id: str, team_id: str) -> Profile:
        """What Slack says of somebody; asked once, however many commands of theirs come at the same time."""
        asking = self._asking.get(slack_id)
        if asking is None:
            asking = self.begin(self.slack.user(slack_id, team=team_id, seconds=PROFILE_SECONDS))
            self._asking[slack_id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(slack_id, None))
        return await asyncio.shield(asking)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """One that is had at once or not at all: Slack does not wait, and what it was told has failed must not happen later."""
        return self.database.transaction(patient=False)

    async def read(self, work: Callable[[Connection], Coroutine[Any, Any, Result]]) -> Result:
        """What a short look into Postgres gives. Raises PoolTimeout within two seconds."""

        async def with_connection() -> Result:
            async with self.database.connection(patient=False) as conn:
                return await work(conn)

        return await self.database.promptly(with_connection())

    async def fill(self, view_id: str, view: Modal) -> None:
        """Puts something else into a modal that is open; if Slack does not take it just now, an actor does that."""
        content = view.to_dict()
        try:
            await self.slack.update_view(view_id, content, seconds=FILL_SECONDS)
        except SlackRefuses as error:
            logger.info("a modal was not updated: %s", error.code)
        except (SlackAway, RetryLater):
            async with self.database.transaction() as conn:
                await ledger.put(conn, UpdateView(view_id=view_id, view=content))

    async def say(self, response_url: str, text: str) -> None:
        """Says something to one person without the ledger, since that is away: once, if Slack takes it."""
        content = {"text": text, "response_type": "ephemeral", "replace_original": False}
        with suppress(SlackAway, SlackRefuses, RetryLater):
            await self.slack.answer(response_url, content, seconds=FILL_SECONDS)


def time_left() -> float:
    """How many seconds there are until the answer has to be on its way."""
    return max(0.0, begun.get() + ANSWER_SECONDS - time.perf_counter())


def ephemeral(text: str, blocks: list[dict[str, Any]] | None = None) -> Response[Any]:
    """The answer to a command, for whoever typed it alone."""
    return Response({"response_type": "ephemeral", "text": text} | ({"blocks": blocks} if blocks else {}), status_code=200)


def nothing() -> Response[Any]:
    """The empty answer: it was received."""
    return Response(b"", status_code=200, media_type="text/plain")
