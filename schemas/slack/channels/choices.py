"""The channels that people choose from when they assign one to a customer, read from Slack within an HTTP request."""

from dataclasses import dataclass, field

from schemas.customers import channel_mappings
from schemas.errors import RetryAfter
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.slack.access import loss
from schemas.slack.access.words import words
from schemas.slack.channels.listing import Channel
from schemas.slack.client import Slack
from schemas.slack.client_errors import SlackAccessLost, SlackRefused, SlackUnavailable

DEADLINE_SECONDS = 3.0  # for all calls of one request
MOST = 1_000
METHOD = "conversations.list"
NOT_SET_UP = "Slack is not set up here, so nothing is posted to channels yet, and they cannot be listed."
UNAVAILABLE = "Slack does not answer just now, so its channels cannot be listed. Open this page again in a moment."
TOO_MANY = f"Slack has more than {MOST:,} channels, which are too many to choose from here."


@dataclass(frozen=True)
class Choices:
    """The channels that Slack lists, by name, and the ids of those that have a mapping. `problem`: why Slack's list cannot be
    shown, in sentences for people; then there are no channels."""

    channels: list[Channel] = field(default_factory=list)
    mapped: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def free(self) -> list[Channel]:
        """The channels without a mapping."""
        return [channel for channel in self.channels if channel.id not in self.mapped]


async def read(database: Database, settings: Settings, slack: Slack) -> Choices:
    """What Slack lists now. That Slack refuses the list to the app is recorded, as for each other call."""
    if settings.slack_bot_token is None:
        return Choices(problem=NOT_SET_UP)
    try:
        found = await slack.channels(most=MOST, seconds=DEADLINE_SECONDS)
    except SlackAccessLost as error:
        async with database.transaction() as conn:
            await loss.record_loss(conn, error, settings)
        lost = words(error.code, error.needed)
        return Choices(problem=f"Slack refuses to list its channels: {lost.text}. What to do: {lost.cure}")
    except SlackRefused as error:
        return Choices(problem=f"Slack refuses to list its channels. Its reason: {error.code[:100]}.")
    except RetryAfter as error:
        return Choices(problem=f"Slack limits the rate of calls. Open this page again in {round(error.seconds)} seconds.")
    except SlackUnavailable:
        return Choices(problem=UNAVAILABLE)
    async with database.transaction() as conn:
        await loss.record_found(conn, METHOD, settings)
        mapped = await channel_mappings.mapped_ids(conn, [channel.id for channel in found or ()])
    if found is None:
        return Choices(problem=TOO_MANY)
    return Choices(sorted(found, key=lambda channel: (channel.name.casefold(), channel.id)), mapped)
