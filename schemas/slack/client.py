"""The client of Slack: request signatures, the Web API, and response URLs. Each call has a deadline.

A call returns its result, or raises one of these. SlackRefused: to repeat the call cannot help. SlackAccessLost: it can help
after an admin has acted. RetryAfter: Slack limits the rate of calls. SlackUnavailable: the outcome is unknown.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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

from schemas.email_addresses import in_ascii
from schemas.errors import RetryAfter
from schemas.servers.error_words import CLOSED, in_words
from schemas.settings import LOOPBACK, SLACK_API_URL, Settings, split_list
from schemas.slack.access.words import MISSING_SCOPE
from schemas.slack.channels.listing import Channel, to_channels
from schemas.slack.client_errors import RATE_LIMITED, from_response, retry_after_seconds
from schemas.slack.client_errors import SlackAccessLost as SlackAccessLost
from schemas.slack.client_errors import SlackRefused as SlackRefused
from schemas.slack.client_errors import SlackUnavailable as SlackUnavailable
from schemas.slack.profiles import Profile as Profile
from schemas.slack.profiles import to_profile
from schemas.slack.views import AnyBlocks

SIGNATURE_SECONDS = 300  # as in Slack's verifier
RESPONSE_URL_HOSTS = ("https://hooks.slack.com", "https://hooks.slack-gov.com")  # the second one of GovSlack
METADATA_TYPE = "stint_message"  # `find_posted` finds Stint's own posts by metadata of this type
CLOCK_SKEW_SECONDS = 60.0
CHANNEL_TYPES = "public_channel,private_channel"
CHANNELS_A_CALL = 500  # Slack takes up to 999, and limits this method to about 20 calls a minute
MOST_CHANNEL_CALLS = 10  # Slack leaves archived channels out of an answer after counting them, so an answer can be empty
NO_OBJECT = "an answer that is no JSON object"
EMAIL_SCOPE = "users:read.email"
USER_NOT_FOUND = {"user_not_found", "users_not_found", "user_not_visible"}


def may_be_signed(*, timestamp: str, signature: str) -> bool:
    """Whether the timestamp is of the last 5 minutes, and the signature has the form of one. This needs no body."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or not re.fullmatch(r"v0=[0-9a-f]{64}", signature):
        return False
    return abs(time.time() - int(timestamp)) <= SIGNATURE_SECONDS


def has_valid_signature(body: bytes, *, timestamp: str, signature: str, settings: Settings) -> bool:
    """Whether Slack signed this body with one of the configured secrets within the last 5 minutes. It never raises an error."""
    if not may_be_signed(timestamp=timestamp, signature=signature):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:  # the verifier would raise it
        return False
    configured = settings.slack_signing_secret
    secrets = split_list(configured.get_secret_value()) if configured is not None else ()
    return any([SignatureVerifier(secret).is_valid(body, timestamp, signature) for secret in secrets])


def is_response_url(url: str, settings: Settings) -> bool:
    """Whether a response_url is one of Slack's, or of the server that SLACK_API_URL names, as in tests and in the sandbox.
    It may have no other host, no port, no credentials, and nothing that two URL parsers could read differently."""
    api = urlsplit(settings.slack_api_url)
    hosts = [*RESPONSE_URL_HOSTS]
    if settings.slack_api_url != SLACK_API_URL:
        hosts.append(f"{api.scheme}://{api.netloc}")
    return any(re.fullmatch(re.escape(host) + r"/[A-Za-z0-9_/-]{1,500}", url) for host in hosts)


class Slack:
    """Slack's Web API, called with the bot token over one HTTP session."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings, self._session = settings, session
        token = settings.slack_bot_token
        # the SDK's own retries could post a message twice
        self._client = AsyncWebClient(
            token=token.get_secret_value() if token else None,
            base_url=settings.slack_api_url,
            session=session,
            retry_handlers=[],
        )
        if urlsplit(settings.slack_api_url).hostname in LOOPBACK:
            self._client.proxy = None  # the SDK reads HTTPS_PROXY but ignores NO_PROXY
        self._team = settings.slack_team_id

    async def team(self, *, seconds: float) -> str:
        """The id of our workspace, or of our organization if the app is installed in all of it. It is SLACK_TEAM_ID. Without
        this setting it is that of the bot token, which is requested from Slack once."""
        if self._team is None:
            answer = await self._call(self._client.auth_test, seconds)
            is_org_wide = answer.get("is_enterprise_install") is True
            if not isinstance(team := answer.get("enterprise_id" if is_org_wide else "team_id"), str):
                raise SlackUnavailable("an answer without a workspace")
            self._team = team
        return self._team

    async def scopes(self, *, seconds: float) -> set[str]:
        """The scopes of the bot token; none if Slack does not name them. Raises SlackAccessLost if the token is not valid."""
        return _granted(await self._answer(self._client.auth_test, seconds))

    async def user(self, slack_id: str, *, team: str, seconds: float) -> Profile:
        """The user's profile, with the refusal "other_workspace" if our workspace has no such user. Raises SlackAccessLost
        also if the app may not read e-mail addresses, because Stint finds its own users by them."""
        try:
            answer = await self._answer(self._client.users_info, seconds, user=slack_id)
        except SlackRefused as error:
            if error.code in USER_NOT_FOUND:
                return Profile(slack_id, "", "other_workspace")
            raise
        granted = _granted(answer)
        if granted and EMAIL_SCOPE not in granted:  # Slack only leaves the address out
            raise SlackAccessLost(MISSING_SCOPE, method="users.info", needed=EMAIL_SCOPE)
        return _to_profile(_object(answer.data, "user"), slack_id, team)

    async def user_by_email(self, email: str, *, team: str, seconds: float) -> Profile | None:
        """The profile of the Slack user with that e-mail address, or None. Both spellings of the domain are tried."""
        for spelling in dict.fromkeys((email, in_ascii(email))):
            try:
                answer = await self._call(self._client.users_lookupByEmail, seconds, email=spelling)
            except SlackRefused as error:
                if error.code in USER_NOT_FOUND:
                    continue
                raise
            user = answer.get("user")
            return _to_profile(user, str(user.get("id")) if isinstance(user, dict) else "", team)
        return None

    async def open_view(self, trigger_id: str, view: View, *, seconds: float) -> str:
        """Opens a modal and returns its id."""
        answer = await self._call(self._client.views_open, seconds, trigger_id=trigger_id, view=view)
        return str(_object(answer, "view").get("id") or "")

    async def update_view(self, view_id: str, view: dict[str, Any], *, seconds: float) -> None:
        """Replaces the content of an open modal."""
        await self._call(self._client.views_update, seconds, view_id=view_id, view=view)

    async def publish_home(self, slack_id: str, view: dict[str, Any], *, view_hash: str | None, seconds: float) -> str | None:
        """Shows the view in the user's App Home, and returns Slack's hash of it. With `view_hash`, Slack refuses the call
        (hash_conflict) if the App Home shows another view than the one with that hash."""
        more = {"hash": view_hash} if view_hash is not None else {}
        answer = await self._call(self._client.views_publish, seconds, user_id=slack_id, view=view, **more)
        shown = _object(answer, "view").get("hash")
        return shown if isinstance(shown, str) else None

    async def post(self, channel: str, text: str, blocks: AnyBlocks, *, message_id: UUID, seconds: float) -> str:
        """Posts to a channel, or as a direct message if `channel` is a user's id. Returns the post's timestamp (`ts`). The
        metadata of the post contains the id of the outbox message, so that `find_posted` can find the post."""
        answer = await self._call(
            self._client.chat_postMessage,
            seconds,
            channel=channel,
            text=text,
            blocks=blocks,
            unfurl_links=False,
            unfurl_media=False,
            metadata=Metadata(event_type=METADATA_TYPE, event_payload={"id": str(message_id)}),
        )
        return str(answer.get("ts") or "")

    async def unfurl(self, unfurl_id: str, source: str, previews: dict[str, dict[str, Any]], *, seconds: float) -> None:
        """Shows previews below a message with links, by their URLs."""
        await self._call(self._client.chat_unfurl, seconds, unfurl_id=unfurl_id, source=source, unfurls=previews)

    async def find_posted(self, channel: str, *, message_id: UUID, since: float, seconds: float) -> str | None:
        """The timestamp (`ts`) of the post that was made for the outbox message after `since`, in seconds since 1970.
        None: there is no such post, or Stint cannot read the channel's history, such as that of direct messages."""
        try:
            answer = await self._call(
                self._client.conversations_history,
                seconds,
                channel=channel,
                oldest=f"{since - CLOCK_SKEW_SECONDS:.6f}",
                include_all_metadata=True,
                limit=200,
            )
        except SlackRefused:
            return None
        messages = answer.get("messages")
        for message in messages if isinstance(messages, list) else ():
            metadata = _object(message, "metadata")
            if metadata.get("event_type") == METADATA_TYPE and _object(metadata, "event_payload").get("id") == str(message_id):
                return str(message.get("ts"))
        return None

    async def channels(self, *, most: int, seconds: float) -> list[Channel] | None:
        """The channels that are not archived: public ones, and private ones that the app is in. None: there are more than
        `most`, or Slack lists them in too many parts. `seconds` is for all calls together."""
        return await _with_deadline(self._all_channels(most, seconds), seconds)  # type: ignore[no-any-return]

    async def _all_channels(self, most: int, seconds: float) -> list[Channel] | None:
        found, cursor = dict[str, Channel](), None
        for _ in range(MOST_CHANNEL_CALLS):
            answer = await self._call(
                self._client.conversations_list,
                seconds,
                types=CHANNEL_TYPES,
                exclude_archived=True,
                limit=CHANNELS_A_CALL,
                cursor=cursor,
            )
            if not isinstance(listed := answer.get("channels"), list):
                raise SlackUnavailable("an answer without channels")
            found |= {channel.id: channel for channel in to_channels(listed)}
            if len(found) > most:
                return None
            cursor = _object(answer, "response_metadata").get("next_cursor")
            if not isinstance(cursor, str) or not cursor:
                return [*found.values()]
        return None

    async def respond(self, response_url: str, content: dict[str, Any], *, seconds: float) -> None:
        """Answers a command or a button at the response_url of its request. Posts only to Slack's URLs and follows no
        redirect."""
        if not is_response_url(response_url, self._settings):
            raise SlackRefused("not_a_response_url")

        async def post() -> int:
            async with self._session.post(
                response_url, json=content, allow_redirects=False, proxy=self._client.proxy
            ) as answer:
                if answer.status == 429:
                    raise RetryAfter(retry_after_seconds(answer.headers), RATE_LIMITED)
                return answer.status

        status = await _with_deadline(post(), seconds)
        if status >= 500:
            raise SlackUnavailable(f"status {status}")
        if status >= 300:
            raise SlackRefused(f"status_{status}")

    async def _call(self, method: Callable[..., Awaitable[AsyncSlackResponse]], seconds: float, **arguments: Any) -> Any:
        return (await self._answer(method, seconds, **arguments)).data

    async def _answer(
        self, method: Callable[..., Awaitable[AsyncSlackResponse]], seconds: float, **arguments: Any
    ) -> AsyncSlackResponse:
        if self._settings.slack_bot_token is None:
            raise SlackRefused("SLACK_BOT_TOKEN is not set")
        try:
            answer: AsyncSlackResponse = await _with_deadline(method(**arguments), seconds)
        except SlackApiError as error:
            raise from_response(error.response, method.__name__.replace("_", ".", 1)) from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:  # of the SDK, for such an answer
            raise SlackUnavailable(NO_OBJECT) from error
        if not isinstance(answer.data, dict):
            raise SlackUnavailable(NO_OBJECT)
        return answer


def _granted(answer: AsyncSlackResponse) -> set[str]:
    """The scopes of the bot token; an empty set if Slack does not name them."""
    return {scope.strip() for scope in str(answer.headers.get("x-oauth-scopes", "")).split(",") if scope.strip()}


async def _with_deadline(call: Awaitable[Any], seconds: float) -> Any:
    # aiohttp's own timeouts are for single socket operations: a server that sends a byte now and then would never reach them
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise SlackUnavailable(f"no answer within {seconds:g} s") from None
    except aiohttp.ClientConnectorError as error:
        raise SlackUnavailable(in_words(error), not_sent=True) from error
    except aiohttp.ServerDisconnectedError as error:
        raise SlackUnavailable(CLOSED) from error
    except (aiohttp.ClientError, OSError) as error:
        raise SlackUnavailable(in_words(error)) from error


def _object(parent: Any, name: str) -> dict[str, Any]:
    """The object of that name in an answer; an empty one if there is none."""
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _to_profile(user: Any, slack_id: str, team: str) -> Profile:
    if not isinstance(user, dict):
        raise SlackUnavailable("an answer without a user")
    return to_profile(user, slack_id, team)


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[Slack]:
    """A client of the Web API inside the `async with` block, on the running event loop."""
    # no limit of connections: callers have deadlines, and others must not wait for the connection of a call that hangs
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Slack(settings, session)
