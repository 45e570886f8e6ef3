"""Whether OPS_SLACK_CHANNEL, the channel for outages, takes posts: as the last post about an outage has found it."""

from schemas.postgres.connection import Connection
from schemas.settings import Settings

_WHAT = "OPS_SLACK_CHANNEL"
SHOWN_DAYS = 7  # nobody posts to it until the next outage, so what was found may be over


async def record_refused(conn: Connection, code: str, settings: Settings) -> None:
    """Slack has refused a post to the channel, by this code, such as `is_archived`. It is an outage that counts as told:
    telling it is what has failed."""
    await conn.execute(
        """
        INSERT INTO outages (what, words, is_told) VALUES (%s, %s, true)
        ON CONFLICT (what) DO UPDATE SET words = excluded.words, since = excluded.since
        """,
        (_WHAT, f"{settings.ops_slack_channel}: {code}"),
    )


async def record_posted(conn: Connection) -> None:
    """The channel has taken a post."""
    await conn.execute("DELETE FROM outages WHERE what = %s", (_WHAT,))


async def refusal(conn: Connection, settings: Settings) -> str | None:
    """The channel that is set and Slack's code, if Slack has refused the last post to it, within SHOWN_DAYS."""
    found: str | None = await conn.value(
        "SELECT words FROM outages WHERE what = %s AND since > now() - make_interval(days => %s) AND starts_with(words, %s)",
        (_WHAT, SHOWN_DAYS, f"{settings.ops_slack_channel}: "),
    )
    return found
