"""Answers to Slack within its deadline: finding the caller, background work, and an apology if Postgres or Slack fails.

Slack waits 3 seconds for an answer. Stint always answers before that; late work continues in the background.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Response

from api.slack import outcomes
from api.slack.deadlines import ANSWER_SECONDS, is_done_in_time
from api.slack.outcomes import Attempt
from schemas.errors import RetryAfter
from schemas.identity.users import User
from schemas.messages import UpdateView
from schemas.outbox import outbox
from schemas.postgres.connection import UNREACHABLE, Connection, PoolBusy, is_unreachable
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.slack import members
from schemas.slack.access import loss
from schemas.slack.client import Profile, Slack, SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.members import Caller
from schemas.slack.payloads import BlockActions
from schemas.slack.views import Modal, notice

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

CLOSING_SECONDS = 2.0  # that work behind an answer may continue when the process stops
LATE_AT_ONCE = 8  # of the requests that are acknowledged before their work
PROFILE_SECONDS = 1.0
USERS_INFO = "users.info"
BACKGROUND_SECONDS = 20.0  # the longest that work continues after the answer
BACKGROUND_CALL_SECONDS = 10.0  # the timeout of a call to Slack after the answer

APOLOGY = "Sorry, Stint can't reach its database right now. Please try again in a minute."
BUSY = "Sorry, Stint is busy right now. Please try again in a moment."
# of a command that may change something: what becomes of it is not known yet
STILL_AWAY = "Sorry, Stint can't reach its database right now. Your command waits for it. What becomes of it follows here."
STILL_BUSY = "Sorry, Stint is busy right now. Your command still runs. What becomes of it follows here."
SLACK_APOLOGY = "Sorry, Slack does not answer right now, so Stint does not know who you are. Please try again in a minute."
OTHER_WORKSPACE = "Stint belongs to another workspace."

# the organization of the current request's workspace (Enterprise Grid); None: Slack names none
request_organization: ContextVar[str | None] = ContextVar("request_organization", default=None)


class CannotAnswer(Exception):
    """The request cannot be answered. The text is for the user: an apology, or the reason of a refusal."""


@dataclass
class Responder:
    """What the handlers of Slack's requests share in one API process."""

    database: Database
    settings: Settings
    slack: Slack = field(init=False)  # it is set when the event loop runs
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    late_places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LATE_AT_ONCE))
    _profile_requests: dict[str, asyncio.Task[Profile]] = field(default_factory=dict)

    def run_in_background(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Starts work that may continue after the answer."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._log_failure)
        return task

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CannotAnswer):
            logger.warning("Slack background work failed error=%s", type(error).__name__)

    async def close(self) -> None:
        """Waits for the work that still runs, for at most CLOSING_SECONDS, and then cancels it."""
        until = time.perf_counter() + CLOSING_SECONDS
        while self._tasks and (seconds := until - time.perf_counter()) > 0:
            await asyncio.wait(set(self._tasks), timeout=seconds)  # it may have started other work
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def in_time(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`. Raises CannotAnswer if there is no result in time, or if Postgres is away. Late work continues.
        So it must change nothing, or nothing that a repeated request would change again."""
        task = self.run_in_background(self.or_apology(work))
        if not await is_done_in_time(task):
            raise CannotAnswer(self._reason())
        return task.result()

    async def answer_behind(
        self, work: Coroutine[Any, Any, str | None], pressed: BlockActions, attempt: Attempt | None = None
    ) -> None:
        """Runs the work of a pressed button. Its request gets an empty answer, perhaps before the work is done. The person
        reads the text that the work returns. If the work fails, they read an apology as soon as it is certain that nothing was
        changed; if the change was committed, they read the message about it instead. In App Home a modal opens only within
        3 seconds of the press, so there they read at once that the outcome is not known."""

        async def follow() -> None:
            try:
                text = await self.or_apology(work)
            except CannotAnswer as error:
                text = await outcomes.apology(self.database, attempt, str(error), waits=not pressed.is_in_home)
            if text:
                self.run_in_background(self.tell(pressed, text))

        await is_done_in_time(self.run_in_background(follow()))

    def still_running(self) -> str:
        """What is answered for a command that may change something and is not done in time."""
        return STILL_BUSY if self._reason() == BUSY else STILL_AWAY

    def _reason(self) -> str:
        """The apology for work that takes too long."""
        return BUSY if self.database.answers(seconds=ANSWER_SECONDS) else APOLOGY

    async def or_apology(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`. Raises CannotAnswer if Postgres is away, or after BACKGROUND_SECONDS."""
        try:
            async with asyncio.timeout(BACKGROUND_SECONDS):
                return await work
        except UNREACHABLE as error:  # includes a statement timeout and a lock timeout
            logger.warning("Slack request answered with an apology error=%s", type(error).__name__)
            is_busy = isinstance(error, PoolBusy) or not is_unreachable(error)
            raise CannotAnswer(BUSY if is_busy else APOLOGY) from error
        except TimeoutError:
            raise CannotAnswer(self._reason()) from None

    async def find_caller(self, slack_id: str, *, team_id: str, channel_id: str | None, may_be_stale: bool = False) -> Caller:
        """The user who makes the request, and the channel's mapping. A profile older than an hour is fetched from Slack again.
        If Slack does not answer, one of the last day is used. With `may_be_stale`, one of the last day is used at once, and is
        fetched again in the background. Raises CannotAnswer if there is no profile."""
        caller, _ = await self._read(slack_id, team_id, channel_id, None, may_be_stale=may_be_stale)
        return caller

    async def read(
        self,
        slack_id: str,
        *,
        team_id: str,
        channel_id: str | None,
        then: Callable[[Connection, Caller, User], Coroutine[Any, Any, Result]],
    ) -> tuple[Caller, Result | None]:
        """The caller, and the result of `then`, which reads for the caller on the same connection and may run twice. The result
        is None if the caller is refused. Raises CannotAnswer as `find_caller` does."""
        return await self._read(slack_id, team_id, channel_id, then)

    async def _read(
        self,
        slack_id: str,
        team_id: str,
        channel_id: str | None,
        then: Callable[[Connection, Caller, User], Coroutine[Any, Any, Result]] | None,
        *,
        may_be_stale: bool = False,
    ) -> tuple[Caller, Result | None]:
        async def look_up(conn: Connection) -> tuple[Caller, Result | None]:
            caller = await members.find_caller(conn, slack_id, channel_id, settings=self.settings)
            return caller, await then(conn, caller, caller.user) if then is not None and caller.user is not None else None

        async def save(conn: Connection) -> tuple[Caller, Result | None]:
            await members.save_profile(conn, profile)
            await loss.record_found(conn, USERS_INFO, self.settings)
            return await look_up(conn)

        try:
            ours, organization = await self.slack.team(seconds=PROFILE_SECONDS), request_organization.get()
            # of a request that names only the organization, the user's profile tells whether it is one of our workspace
            if ours not in (team_id, organization) and not (team_id == organization and ours.startswith("T")):
                return Caller(slack_id, None, OTHER_WORKSPACE, None, fresh=True), None
        except SlackAccessLost as error:
            raise self.access_lost(error) from error
        except (SlackUnavailable, SlackRefused, RetryAfter) as error:
            logger.warning("Slack workspace id unknown error=%r", str(error))
            raise CannotAnswer(SLACK_APOLOGY) from error
        found = await self.query(look_up)
        if found[0].fresh:
            return found
        if may_be_stale and found[0].user is not None:
            self.run_in_background(self._refresh(slack_id, ours))
            return found
        try:
            profile = await self._fetch_profile(slack_id, ours)
        except SlackAccessLost as error:
            refusal = self.access_lost(error)
            if found[0].is_known:
                return found
            raise refusal from error
        except (SlackUnavailable, SlackRefused, RetryAfter) as error:
            logger.warning("Slack profile unknown error=%r", str(error))
            if found[0].is_known:
                return found
            raise CannotAnswer(SLACK_APOLOGY) from error
        return await self.query(save)

    async def _refresh(self, slack_id: str, team_id: str) -> None:
        """Fetches a profile that is known already, for the next request."""
        try:
            profile = await self._fetch_profile(slack_id, team_id)
        except SlackAccessLost as error:
            self.access_lost(error)
        except (SlackUnavailable, SlackRefused, RetryAfter):
            pass
        else:
            async with self.database.connection(queued=False) as conn:
                await members.save_profile(conn, profile)
                await loss.record_found(conn, USERS_INFO, self.settings)

    def access_lost(self, error: SlackAccessLost) -> CannotAnswer:
        """Records in the background that Slack refuses the method to the app. Returns what the person reads."""

        async def record() -> None:
            async with self.transaction() as conn:
                await loss.record_loss(conn, error, self.settings)

        logger.warning("Slack refuses a call to the app method=%s code=%s", error.method, error.code)
        self.run_in_background(record())
        return CannotAnswer(error.for_user)

    async def _fetch_profile(self, slack_id: str, team_id: str) -> Profile:
        """The user's profile from Slack. Requests of one user that arrive at the same time share one call."""
        request = self._profile_requests.get(slack_id)
        if request is None:
            request = self.run_in_background(self.slack.user(slack_id, team=team_id, seconds=PROFILE_SECONDS))
            self._profile_requests[slack_id] = request
            request.add_done_callback(lambda _: self._profile_requests.pop(slack_id, None))
        return await asyncio.shield(request)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction on a connection that does not queue. Slack does not wait, and nothing must be written after the user
        has read that it failed."""
        return self.database.transaction(queued=False)

    async def query(self, work: Callable[[Connection], Coroutine[Any, Any, Result]]) -> Result:
        """The result of a short query. Raises PoolTimeout within two seconds."""

        async def with_connection() -> Result:
            async with self.database.connection(queued=False) as conn:
                return await work(conn)

        return await self.database.with_deadline(with_connection())

    async def update_modal(self, view_id: str, view: Modal) -> None:
        """Replaces the content of an open modal. If Slack does not answer, an actor does it later."""
        content = view.to_dict()
        try:
            await self.slack.update_view(view_id, content, seconds=BACKGROUND_CALL_SECONDS)
        except SlackRefused as error:
            logger.info("Slack modal not updated code=%s", error.code)
        except (SlackUnavailable, RetryAfter):
            async with self.database.transaction() as conn:
                await outbox.enqueue(conn, UpdateView(view_id=view_id, view=content))

    async def open_view(self, trigger_id: str, view: Modal, *, seconds: float) -> str:
        """Opens a modal and returns its id. It also records that Slack does not refuse this any more."""
        view_id = await self.slack.open_view(trigger_id, view, seconds=seconds)
        self.run_in_background(self._record_opened())
        return view_id

    async def _record_opened(self) -> None:
        with suppress(*UNREACHABLE):
            async with self.database.connection(queued=False) as conn:
                await loss.record_found(conn, loss.OPEN_VIEW, self.settings)

    async def tell(self, pressed: BlockActions, text: str) -> None:
        """Shows a text to the person who pressed a button: below the message of the button; in App Home, in a modal."""
        if pressed.response_url is not None:
            await self.send_ephemeral(pressed.response_url, text)
        elif pressed.is_in_home:
            with suppress(SlackUnavailable, SlackRefused, RetryAfter):
                await self.open_view(pressed.trigger_id, notice(text, title="Stint"), seconds=BACKGROUND_CALL_SECONDS)

    async def send_ephemeral(self, response_url: str, text: str, blocks: list[dict[str, Any]] | None = None) -> None:
        """Sends a text that only one user sees, by one call without the outbox, because Postgres may be away."""
        content = {"text": text, "response_type": "ephemeral", "replace_original": False} | (
            {"blocks": blocks} if blocks else {}
        )
        with suppress(SlackUnavailable, SlackRefused, RetryAfter):
            await self.slack.respond(response_url, content, seconds=BACKGROUND_CALL_SECONDS)


def ephemeral(text: str, blocks: list[dict[str, Any]] | None = None) -> Response[Any]:
    """The answer to a command, shown only to its user."""
    return Response({"response_type": "ephemeral", "text": text} | ({"blocks": blocks} if blocks else {}), status_code=200)


def empty_response() -> Response[Any]:
    """200 without a body: Slack's request was accepted."""
    return Response(b"", status_code=200, media_type="text/plain")
