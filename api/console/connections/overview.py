"""What Stint is connected with, and whether that works. Reads only Postgres: nothing here waits for another server."""

import time
from typing import Any

from litestar import Response, get

from api.auth.auth import require_admin
from api.console.forms import Form
from api.console.pages import page
from api.dependencies import ApiRequest
from schemas.outbox import heartbeats, queue_samples
from schemas.postgres.server import description
from schemas.slack.access import loss
from schemas.xero import sending
from schemas.xero.access import status
from schemas.xero.sending import MAX_BILLS

PATH = "/console/connections"
NONE_FAILED = "Nothing was sent: no bill is failed any more."
LATE_SECONDS = 60  # a message that is due for longer waits too long


@get(PATH, guards=[require_admin])
async def show_connections(request: ApiRequest) -> Response[bytes]:
    """The page."""
    return await connections_page(request, Form())


async def connections_page(request: ApiRequest, form: Form[Any], *, code: int = 200) -> Response[bytes]:
    """The page, with the form that sends failed bills again."""
    settings = request.settings
    async with request.database.connection() as conn:
        failed = await sending.count_failed(conn)
        xero, bills = await status.connection_status(conn, settings), await status.count_sent(conn)
        losses = await loss.losses(conn, settings) if settings.slack_bot_token is not None else []
        processes = await heartbeats.processes(conn)
        depths = await queue_samples.depths(conn)
        began = time.perf_counter()
        postgres = await description.describe(conn)
        milliseconds = (time.perf_counter() - began) * 1000
    if not failed.count:
        form.is_gone(NONE_FAILED)
    relays = [process for process in processes if process.kind == "relay" and process.alive]
    values: dict[str, Any] = {
        "xero": xero,
        "bills": bills,
        "failed": failed,
        "most_sent": min(failed.count, MAX_BILLS),
        "has_xero_app": settings.xero_client_id is not None and settings.xero_client_secret is not None,
        "leads_here": settings.redirect_uri in own_callbacks(settings.public_url),
        "callback": own_callbacks(settings.public_url)[0],
        "losses": losses,
        "relays": relays,
        "other_queues": sorted({queue for relay in relays for queue in relay.other_queues}),
        "late": [queue for queue in depths if queue.oldest_due_seconds > LATE_SECONDS],
        "postgres": postgres,
        "milliseconds": milliseconds,
    }
    return page(request, "connections/overview.html", status=code, form=form, **values)


def own_callbacks(public_url: str) -> tuple[str, str]:
    """The redirect URIs that lead to the console: its own, and the default one."""
    base = public_url.rstrip("/")
    return f"{base}{PATH}/xero/callback", f"{base}/xero/callback"
