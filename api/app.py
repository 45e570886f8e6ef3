"""The application: every route in one table, and what stands around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.plugins.pydantic import PydanticPlugin

from api import (
    active_timers,
    channel_mappings,
    customer_users,
    customers,
    dead_letters,
    events,
    focus,
    health,
    leads,
    me,
    pillars,
    sign_in,
    slack,
    sync,
    tasks,
    time_bills,
    time_entries,
    timers,
    xero,
)
from api.auth import Authenticator, BearerAuth
from api.cors import Application, with_cors, with_preflight
from api.docs import ASSETS_ROUTER, CONFIG, document_errors
from api.head import with_head
from api.listeners import Listeners
from api.outcomes import Outcomes
from api.problems import HANDLERS
from api.requests import MAX_BODY_BYTES, StrictRequest, observed, refuse_doubtful_query
from api.shapes import ModelShapes
from api.slack_desk import Desk
from schemas.clients import slack as slack_client
from schemas.clients.identity import identity
from schemas.database import Database
from schemas.settings import Settings
from schemas.users import User

ROUTES = [
    # who am I
    me.get_me,
    # customers
    customers.list_customers,
    customers.create_customer,
    customers.get_customer,
    customers.change_customer,
    customers.delete_customer,
    # a customer's users
    customer_users.list_customer_users,
    customer_users.invite,
    customer_users.resend_invitation,
    customer_users.remove_customer_user,
    # leads
    leads.list_leads,
    # pillars
    pillars.list_pillars,
    pillars.create_pillar,
    pillars.get_pillar,
    pillars.change_pillar,
    pillars.delete_pillar,
    # who is looking at which customer
    focus.put_focus,
    focus.clear_focus,
    focus.list_focus,
    # what changes, while it does
    events.listen,
    # tasks
    tasks.list_tasks,
    tasks.create_task,
    tasks.list_internal_users,
    tasks.get_task,
    tasks.change_task,
    # timers
    timers.start_timer,
    timers.stop_timer,
    active_timers.get_active_timer,
    active_timers.put_active_timer,
    active_timers.discard_active_timer,
    # time entries
    time_entries.list_time_entries,
    time_entries.create_time_entry,
    time_entries.get_time_entry,
    time_entries.change_time_entry,
    time_entries.delete_time_entry,
    time_entries.write_notes,
    # time bills
    time_bills.list_time_bills,
    time_bills.approve_all,
    time_bills.start_recompute,
    time_bills.get_recompute,
    time_bills.get_time_bill,
    time_bills.change_time_bill,
    # Slack
    slack.receive_event,
    slack.receive_interaction,
    channel_mappings.list_channel_mappings,
    channel_mappings.create_channel_mapping,
    channel_mappings.change_channel_mapping,
    channel_mappings.delete_channel_mapping,
    # dead letters
    dead_letters.list_dead_letters,
    dead_letters.list_dead_letter_groups,
    dead_letters.replay_dead_letters,
    dead_letters.get_replay,
    dead_letters.cancel_replay,
    dead_letters.discard_dead_letters,
    dead_letters.restore_dead_letters,
    dead_letters.get_dead_letter,
    dead_letters.edit_dead_letter,
    # all of it, for clients that work offline
    sync.pull_changes,
    sync.push_operations,
    # Xero
    xero.get_auth_url,
    xero.connect,
    xero.get_status,
    xero.disconnect,
    xero.list_projects,
    xero.list_tasks,
    # without a token
    sign_in.ask_for_code,
    sign_in.sign_in_with_code,
    leads.receive_lead,
    health.live,
    health.ready,
    health.metrics,
    health.jwks,
]


def create_app(settings: Settings) -> Application:
    """The ASGI application; it starts whether Postgres is there or not."""
    database = Database(settings)
    outcomes = Outcomes(database)
    provider = identity(settings, database)
    authenticator = Authenticator(settings, provider)
    listeners = Listeners(settings)

    @asynccontextmanager
    async def connected(started: Litestar) -> AsyncIterator[None]:
        await database.open()
        if settings.people_are_outside:
            authenticator.keys.read()  # nobody who comes has to wait for it
        listeners.open()
        async with slack_client.connected(settings) as slack_api:
            desk = started.state.desk = Desk(database, settings, slack_api)
            yield
            await desk.close()
        await listeners.close()
        await database.close()

    async def the_desk(state: State) -> Desk:
        desk: Desk = state.desk
        return desk

    async def current_user(request: StrictRequest) -> User:
        user: User = request.user
        return user

    def always(value: object) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    app = Litestar(
        [*map(document_errors, ROUTES), ASSETS_ROUTER],
        lifespan=[connected],
        state=State({"database": database, "authenticator": authenticator, "settings": settings}),
        dependencies={
            "database": always(database),
            "outcomes": always(outcomes),
            "identity": always(provider),
            "listeners": always(listeners),
            "authenticator": always(authenticator),
            "settings": always(settings),
            "desk": Provide(the_desk),
            "user": Provide(current_user),
        },
        middleware=[DefineMiddleware(BearerAuth, exclude=["^/docs"])],
        request_class=StrictRequest,
        before_request=refuse_doubtful_query,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers=HANDLERS,
        openapi_config=CONFIG,
        plugins=[ModelShapes(prefer_alias=True), PydanticPlugin(prefer_alias=True)],
        logging_config=None,  # ours is set up already, for every library alike
        debug=False,
    )
    return with_cors(observed(with_preflight(with_head(app))))
