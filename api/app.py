"""The application: the table of all routes, and the wiring around them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.plugins.pydantic import PydanticPlugin

from api import dead_letters, health, me, sign_in, xero
from api.auth.auth import Authenticator, with_authentication
from api.console.connections.xero import lead_to_callback
from api.console.errors import plain_error_page, with_pages
from api.console.routes import CONSOLE
from api.customers import channel_mappings, customer_users, customers, focus, leads, pillars, tasks
from api.dependencies import ApiRequest, Context
from api.diagnosis import diagnosis
from api.diagnosis.counts import FindingCounts
from api.diagnosis.reports import Reports
from api.heartbeat import beating
from api.hours import active_timers, time_bills, time_entries, timers
from api.http.bodies import refuse_body
from api.http.cors import Application, with_preflight
from api.http.head import with_head
from api.http.limits.clients import count_client
from api.http.limits.validation import BoundedValidation
from api.http.openapi import ASSETS_ROUTER, openapi_config, show_console
from api.http.openapi_models import PydanticSchemas
from api.http.problems import HANDLERS
from api.http.queries import reject_wrong_query
from api.http.requests import MAX_BODY_BYTES, with_request_log
from api.http.responses import get_page
from api.http.security import with_common_headers
from api.outbox_metrics import OutboxMetrics
from api.outcome_waiter import OutcomeWaiter
from api.pool_metrics import recording
from api.processes import metrics
from api.readiness import Readiness
from api.reports import hours as reports
from api.slack import routes as slack
from api.slack.responder import Responder
from api.sync import events, sync
from api.sync.event_listeners import Subscribers
from api.tracing import with_tracing
from schemas.identity.current_user import current_user_id
from schemas.identity.provider import identity_provider
from schemas.identity.users import User
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.slack import client as slack_client

# Each method and path is repeated in the handler's decorator; tests/api/test_openapi.py compares them.
ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    # the current user
    ("GET", "/api/me", me.get_me),
    ("GET", "/api/me/working-hours", me.get_working_hours),
    ("PATCH", "/api/me/working-hours", me.change_working_hours),
    # customers
    ("GET", "/api/customers", customers.list_customers),
    ("POST", "/api/customers", customers.create_customer),
    ("GET", "/api/customers/{customer_id:str}", customers.get_customer),
    ("PUT", "/api/customers/{customer_id:str}", customers.change_customer),
    ("DELETE", "/api/customers/{customer_id:str}", customers.delete_customer),
    # a customer's users
    ("GET", "/api/customers/{customer_id:str}/users", customer_users.list_customer_users),
    ("POST", "/api/customers/{customer_id:str}/users/invite", customer_users.invite),
    ("POST", "/api/customers/{customer_id:str}/users/resend-invite", customer_users.resend_invitation),
    ("DELETE", "/api/customers/{customer_id:str}/users/{user_id:str}", customer_users.remove_customer_user),
    # leads
    ("GET", "/api/leads", leads.list_leads),
    # pillars
    ("GET", "/api/customers/{customer_id:str}/pillars", pillars.list_pillars),
    ("POST", "/api/customers/{customer_id:str}/pillars", pillars.create_pillar),
    ("GET", "/api/customers/{customer_id:str}/pillars/{pillar_id:str}", pillars.get_pillar),
    ("PUT", "/api/customers/{customer_id:str}/pillars/{pillar_id:str}", pillars.change_pillar),
    ("DELETE", "/api/customers/{customer_id:str}/pillars/{pillar_id:str}", pillars.delete_pillar),
    # focus: which customer an internal user is looking at
    ("PUT", "/api/customers/{customer_id:str}/focus", focus.put_focus),
    ("DELETE", "/api/customers/{customer_id:str}/focus", focus.clear_focus),
    ("GET", "/api/focus", focus.list_focus),
    # live events
    ("GET", "/api/events", events.listen),
    # tasks
    ("GET", "/api/tasks", tasks.list_tasks),
    ("POST", "/api/tasks", tasks.create_task),
    ("GET", "/api/tasks/internal-users", tasks.list_internal_users),
    ("GET", "/api/tasks/{task_id:str}", tasks.get_task),
    ("PUT", "/api/tasks/{task_id:str}", tasks.change_task),
    # timers
    ("POST", "/api/tasks/{task_id:str}/start", timers.start_timer),
    ("POST", "/api/tasks/{task_id:str}/stop", timers.stop_timer),
    ("GET", "/api/active-timers", active_timers.list_active_timers),
    ("GET", "/api/active-timers/{owner:str}", active_timers.get_active_timer),
    ("PUT", "/api/active-timers/{owner:str}", active_timers.put_active_timer),
    ("DELETE", "/api/active-timers/{owner:str}", active_timers.discard_active_timer),
    ("POST", "/api/active-timers/{owner:str}/stop", active_timers.stop_active_timer),
    # time entries
    ("GET", "/api/time-entries", time_entries.list_time_entries),
    ("POST", "/api/time-entries", time_entries.create_time_entry),
    ("GET", "/api/time-entries/{entry_id:str}", time_entries.get_time_entry),
    ("PATCH", "/api/time-entries/{entry_id:str}", time_entries.change_time_entry),
    ("DELETE", "/api/time-entries/{entry_id:str}", time_entries.delete_time_entry),
    ("POST", "/api/time-entries/{entry_id:str}/notes", time_entries.write_notes),
    # time bills
    ("GET", "/api/time-bills", time_bills.list_time_bills),
    ("POST", "/api/time-bills/approve-all", time_bills.approve_all),
    ("POST", "/api/time-bills/recompute", time_bills.start_recompute),
    ("GET", "/api/time-bills/recompute/{job_id:str}", time_bills.get_recompute),
    ("GET", "/api/time-bills/{bill_id:str}", time_bills.get_time_bill),
    ("PATCH", "/api/time-bills/{bill_id:str}", time_bills.change_time_bill),
    # reports
    ("GET", "/api/reports/hours", reports.get_hours_report),
    # Slack
    ("POST", "/api/slack/events", slack.receive_event),
    ("POST", "/api/slack/interactivity", slack.receive_interaction),
    ("GET", "/api/slack/channel-mappings", channel_mappings.list_channel_mappings),
    ("POST", "/api/slack/channel-mappings", channel_mappings.create_channel_mapping),
    ("PUT", "/api/slack/channel-mappings/{mapping_id:str}", channel_mappings.change_channel_mapping),
    ("DELETE", "/api/slack/channel-mappings/{mapping_id:str}", channel_mappings.delete_channel_mapping),
    # dead letters
    ("GET", "/api/dead-letters", dead_letters.list_dead_letters),
    ("GET", "/api/dead-letters/groups", dead_letters.list_dead_letter_groups),
    ("POST", "/api/dead-letters/replay", dead_letters.replay_dead_letters),
    ("GET", "/api/dead-letters/replays", dead_letters.list_replays),
    ("GET", "/api/dead-letters/replays/{replay_id:str}", dead_letters.get_replay),
    ("DELETE", "/api/dead-letters/replays/{replay_id:str}", dead_letters.cancel_replay),
    ("POST", "/api/dead-letters/discard", dead_letters.discard_dead_letters),
    ("POST", "/api/dead-letters/restore", dead_letters.restore_dead_letters),
    ("POST", "/api/dead-letters/trigger", dead_letters.trigger_work),
    ("GET", "/api/dead-letters/{letter_id:str}", dead_letters.get_dead_letter),
    ("POST", "/api/dead-letters/{letter_id:str}/edit", dead_letters.edit_dead_letter),
    # sync, for clients that work offline
    ("GET", "/api/sync", sync.pull_changes),
    ("POST", "/api/sync", sync.push_operations),
    # Xero
    ("GET", "/api/xero/auth-url", xero.get_auth_url),
    ("POST", "/api/xero/connect", xero.connect),
    ("GET", "/api/xero/status", xero.get_status),
    ("DELETE", "/api/xero/disconnect", xero.disconnect),
    ("POST", "/api/xero/time-bills/send", xero.send_time_bills),
    ("POST", "/api/xero/time-bills/accept", xero.accept_time_bills),
    ("GET", "/api/xero/reconciliation", xero.get_reconciliation),
    ("GET", "/api/xero/projects", xero.list_projects),
    ("GET", "/api/xero/projects/{project_id:str}/tasks", xero.list_tasks),
    ("POST", "/auth/sign-out", sign_in.sign_out),
    # public: no token
    ("POST", "/auth/code", sign_in.ask_for_code),
    ("POST", "/auth/token", sign_in.sign_in_with_code),
    ("POST", "/api/leads", leads.receive_lead),
    ("GET", "/health/live", health.live),
    ("GET", "/health/ready", health.ready),
    ("GET", "/metrics", health.metrics),
    ("GET", "/diagnosis", diagnosis.diagnosis),
    ("GET", "/.well-known/jwks.json", health.jwks),
]


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Raises RateLimited for a client that has had too many requests; and Invalid for what the handler would ignore: wrong
    parameters in the query, and a body for a route without one."""
    count_client(request)
    user: User | None = request.scope.get("user")
    current_user_id.set(user.id if user is not None else None)
    await reject_wrong_query(request)
    await refuse_body(request)


def create_app(settings: Settings) -> Application:
    """The ASGI application. It starts even while Postgres is away."""
    app = with_head(create_routes(settings))
    logged = with_tracing(with_request_log(with_preflight(app), plain_error_page))
    return with_common_headers(logged, settings.public_url)


def create_routes(settings: Settings) -> Litestar:
    """The routes with what they depend on, without what surrounds every request."""
    context = create_context(settings)
    database, authenticator, responder = context.database, context.authenticator, context.responder

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        await database.open()
        if settings.uses_external_identity:
            authenticator.keys.refresh()  # so that the first request does not wait for it
        context.subscribers.open()
        async with slack_client.open_client(settings) as slack_api, beating(settings), recording(database):
            responder.slack = slack_api
            metrics.serve()
            yield
            await responder.close()
        await context.subscribers.close()
        await database.close()

    return Litestar(
        [*(handler for _, _, handler in ROUTES), CONSOLE, show_console, lead_to_callback, ASSETS_ROUTER],
        lifespan=[lifespan],
        state=State({"context": context, "making_document": asyncio.Lock()}),
        dependencies={"page": Provide(get_page, sync_to_thread=False)},
        middleware=[with_authentication],
        request_class=ApiRequest,
        before_request=check_request,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers=with_pages(HANDLERS),
        openapi_config=openapi_config(),
        plugins=[PydanticSchemas(prefer_alias=True), PydanticPlugin(prefer_alias=True), BoundedValidation()],
        logging_config=None,  # schemas/logs.py configures the logs of all libraries
        debug=False,
    )


def create_context(settings: Settings) -> Context:
    """What the handlers of this process share, not opened yet."""
    database = Database(settings)
    provider = identity_provider(settings, database)
    readiness = Readiness(database, settings)
    return Context(
        database=database,
        settings=settings,
        identity_provider=provider,
        authenticator=Authenticator(settings, provider),
        subscribers=Subscribers(settings),
        responder=Responder(database, settings),
        outcomes=OutcomeWaiter(database),
        readiness=readiness,
        outbox_metrics=OutboxMetrics(database, settings),
        reports=Reports(settings, readiness),
        finding_counts=FindingCounts(database, settings),
    )
