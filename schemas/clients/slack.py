"""The window to Slack: its signatures, its Web API, and the URLs that it wants answers at. Each call has a deadline.

What Slack answers comes out as one of four: a result; `SlackRefuses`, for which asking again is no use; RetryLater, when it
said when to come back; `SlackAway`, when the outcome is not known.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.models.metadata import Metadata
from slack_sdk.models.views import View
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from schemas.clients import LOOPBACK
from schemas.clients.slack_views import Blocks
from schemas.errors import RetryLater
from schemas.settings import SLACK_API_URL, Settings, listed

HOOKS = "https://hooks.slack.com"
POSTED = "stint_message"  # the type of the metadata by which a message of ours is found again
LONGEST_WAIT_SECONDS = 3600.0
CLOCK_SKEW_SECONDS = 60.0
# what Slack says when it is unwell, rather than that the request is wrong
UNWELL = {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org", "unknown_error"}
NO_SUCH_USER = {"user_not_found", "users_not_found", "user_not_visible"}


class SlackRefuses(Exception):
    """Slack said no, and would again; `code` is its word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Slack refuses: {code}")
        self.code = code


class SlackAway(Exception):
    """Slack did not answer, or is unwell; `unsent` if it is sure that the request never got there."""

    def __init__(self, why: str, *, unsent: bool = False) -> None:
        super().__init__(f"Slack is away: {why}")
        self.unsent = unsent


@dataclass(frozen=True)
class Profile:
    """One user, as Slack knows them. `refusal` says why this is no person of our workspace."""

    slack_id: str
    email: str
    refusal: str | None


def is_signed(body: bytes, *, timestamp: str, signature: str, settings: Settings) -> bool:
    """Whether Slack signed this body with one of our secrets within the last 5 minutes. What the verifier would stumble over
    (a time that is no whole number, a signature that is no hex, a body that is no UTF-8) is just not signed."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or not re.fullmatch(r"v0=[0-9a-f]{64}", signature):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    configured = settings.slack_signing_secret
    secrets = listed(configured.get_secret_value()) if configured is not None else ()
    return any([SignatureVerifier(secret).is_valid(body, timestamp, signature) for secret in secrets])


def is_answerable(url: str, settings: Settings) -> bool:
    """Whether a response_url is Slack's own, letter by letter: no other host, no port, no credentials, nothing that two readers
    of URLs could understand differently. Where the Web API is somebody else's (tests, the sandbox), that one's, too."""
    api = urlsplit(settings.slack_api_url)
    homes = [HOOKS] if settings.slack_api_url == SLACK_API_URL else [HOOKS, f"{api.scheme}://{api.netloc}"]
    return any(re.fullmatch(re.escape(home) + r"/[A-Za-z0-9_/-]{1,500}", url) for home in homes)


class Slack:
    """The Web API, by our bot token, over one session."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings, self._session = settings, session
        token = settings.slack_bot_token
        # its own retries would post twice
        self._client = AsyncWebClient(
            token=token.get_secret_value() if token else None,
            base_url=settings.slack_api_url,
            session=session,
            retry_handlers=[],
        )
        if urlsplit(settings.slack_api_url).hostname in LOOPBACK:
            self._client.proxy = None  # it reads HTTPS_PROXY, and no NO_PROXY
        self._team = settings.slack_team_id

    async def team(self, *, seconds: float) -> str:
        """Our workspace: the configured one, or the token's own, asked for once."""
        if self._team is None:
            answer = await self._ask(self._client.auth_test, seconds)
            self._team = str(answer.get("team_id") or "")
        return self._team

    async def user(self, slack_id: str, *, team: str, seconds: float) -> Profile:
        """Who that is. Somebody whom our workspace does not know is foreign."""
        try:
            answer = await self._ask(self._client.users_info, seconds, user=slack_id)
        except SlackRefuses as error:
            if error.code in NO_SUCH_USER:
                return Profile(slack_id, "", "foreign")
            raise
        return _profile(answer.get("user"), slack_id, team)

    async def user_by_email(self, email: str, *, team: str, seconds: float) -> Profile | None:
        """Who has that address there, if anybody."""
        try:
            answer = await self._ask(self._client.users_lookupByEmail, seconds, email=email)
        except SlackRefuses as error:
            if error.code in NO_SUCH_USER:
                return None
            raise
        user = answer.get("user")
        return _profile(user, str(user.get("id")) if isinstance(user, dict) else "", team)

    async def open_view(self, trigger_id: str, view: View, *, seconds: float) -> str:
        """Opens a modal, and returns its id."""
        answer = await self._ask(self._client.views_open, seconds, trigger_id=trigger_id, view=view)
        return str((answer.get("view") or {}).get("id") or "")

    async def update_view(self, view_id: str, view: dict[str, Any], *, seconds: float) -> None:
        """Puts something else into a modal that is open."""
        await self._ask(self._client.views_update, seconds, view_id=view_id, view=view)

    async def post(self, channel: str, text: str, blocks: Blocks, *, message_id: UUID, seconds: float) -> str:
        """Posts into a channel, or as a direct message when the channel is a user's id; returns the ts. It carries our
        message's id, by which `find_posted` knows it again."""
        answer = await self._ask(
            self._client.chat_postMessage,
            seconds,
            channel=channel,
            text=text,
            blocks=blocks,
            unfurl_links=False,
            unfurl_media=False,
            metadata=Metadata(event_type=POSTED, event_payload={"id": str(message_id)}),
        )
        return str(answer.get("ts") or "")

    async def find_posted(self, channel: str, *, message_id: UUID, since: float, seconds: float) -> str | None:
        """The ts of what was posted for that message since then (seconds since 1970), or None when there is nothing, or when we
        may not look: a direct message, a channel that we are not in, a missing scope."""
        try:
            answer = await self._ask(
                self._client.conversations_history,
                seconds,
                channel=channel,
                oldest=f"{since - CLOCK_SKEW_SECONDS:.6f}",
                include_all_metadata=True,
                limit=200,
            )
        except SlackRefuses:
            return None
        for message in answer.get("messages") or ():
            metadata = message.get("metadata") or {}
            if metadata.get("event_type") == POSTED and metadata.get("event_payload", {}).get("id") == str(message_id):
                return str(message.get("ts"))
        return None

    async def answer(self, response_url: str, content: dict[str, Any], *, seconds: float) -> None:
        """Answers a command or a button at the URL that came with it. Never leaves Slack, nor follows anybody elsewhere."""
        if not is_answerable(response_url, self._settings):
            raise SlackRefuses("not_a_response_url")

        async def post() -> int:
            async with self._session.post(
                response_url, json=content, allow_redirects=False, proxy=self._client.proxy
            ) as answer:
                if answer.status == 429:
                    raise RetryLater(_retry_after(answer.headers), "Slack asked to come back later")
                return answer.status

        status = await _in_time(post(), seconds)
        if status >= 500:
            raise SlackAway(f"status {status}")
        if status >= 300:
            raise SlackRefuses(f"status_{status}")

    async def _ask(self, method: Callable[..., Awaitable[AsyncSlackResponse]], seconds: float, **arguments: Any) -> Any:
        if self._settings.slack_bot_token is None:
            raise SlackRefuses("SLACK_BOT_TOKEN is not set")
        try:
            return (await _in_time(method(**arguments), seconds)).data
        except SlackApiError as error:
            raise _judged(error) from error


def _judged(error: SlackApiError) -> Exception:
    response = error.response
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    if status == 429:
        return RetryLater(_retry_after(response.headers), "Slack asked to come back later")
    data = getattr(response, "data", None)
    code = str(data.get("error")) if isinstance(data, dict) and data.get("error") else ""
    if status >= 500 or not code or code in UNWELL:
        return SlackAway(code or f"status {status}")
    return RetryLater(30, "Slack asked to come back later") if code == "ratelimited" else SlackRefuses(code)


async def _in_time(call: Awaitable[Any], seconds: float) -> Any:
    # aiohttp's own limits stand around sockets, and a server that drips would stay within them
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise SlackAway(f"no answer within {seconds:g} s") from None
    except aiohttp.ClientConnectorError as error:
        raise SlackAway(type(error).__name__, unsent=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise SlackAway(type(error).__name__) from error


def _retry_after(headers: Any) -> float:
    text = str(headers.get("Retry-After", ""))
    return min(max(float(text), 1.0), LONGEST_WAIT_SECONDS) if re.fullmatch(r"[0-9]{1,9}", text) else 30.0


def _profile(user: Any, slack_id: str, team: str) -> Profile:
    if not isinstance(user, dict):
        raise SlackAway("an answer without a user")
    refusal = None
    if user.get("team_id") != team or user.get("is_stranger"):
        refusal = "foreign"
    elif user.get("is_bot") or user.get("is_workflow_bot") or slack_id == "USLACKBOT":
        refusal = "bot"
    elif user.get("deleted"):
        refusal = "deleted"
    email = (user.get("profile") or {}).get("email")
    return Profile(slack_id, email if isinstance(email, str) else "", refusal)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Slack]:
    """The Web API, for as long as the block lasts, on the event loop that runs it."""
    connector = aiohttp.TCPConnector(limit=0)  # callers have deadlines; a stalled call must not make others wait for its place
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Slack(settings, session)
