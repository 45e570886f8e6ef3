"""Previews of links to tasks (Slack: unfurling), in the channel of the task's customer only.

Everybody in a channel sees a preview. So there is one only where a confirmation of the task would be posted, too: in a channel
that is mapped to the task's customer; and only of links that one of the firm's own people posted.
"""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from schemas.messages import PreviewLinks
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import task_actions, views
from schemas.slack.members import Caller
from schemas.slack.task_actions import parse_id

MOST_LINKS = 10  # in one message

Previews = dict[str, dict[str, Any]]


def task_of(url: str, settings: Settings) -> UUID | None:
    """The id of the task to whose page in the web application the URL leads; None for every other URL."""
    try:
        found, ours = urlsplit(url), urlsplit(settings.sign_in_url)
        if (found.scheme, found.hostname, found.port) != (ours.scheme, ours.hostname, ours.port):
            return None
    except ValueError:  # a port or host that is none
        return None
    before = f"{ours.path.rstrip('/')}/tasks/"
    return parse_id(found.path[len(before) :].rstrip("/")) if found.path.startswith(before) else None


async def is_mapped(conn: Connection, channel_id: str) -> bool:
    """Whether the channel is mapped to a customer: in all others there are no previews."""
    query = "SELECT EXISTS (SELECT FROM slack_channel_mappings WHERE channel_id = %s AND deleted_at IS NULL)"
    return bool(await conn.value(query, (channel_id,)))


async def build(conn: Connection, message: PreviewLinks, caller: Caller, *, settings: Settings) -> Previews:
    """The preview of each link, by its URL; `caller` is who posted them. Empty if there is nothing to show."""
    if caller.user is None or caller.channel is None:
        return {}
    found: Previews = {}
    for url in message.urls:
        task_id = task_of(url, settings)
        if task_id is None:
            continue
        task = await task_actions.get_task(conn, task_id, settings=settings, only_customer=caller.channel.customer_id)
        if task is not None:
            found[url] = views.task_preview(task)
    return found
