"""The table of the console's routes, and what surrounds each of them."""

from typing import Any

from litestar import Request, Router
from litestar.handlers import HTTPRouteHandler

from api.console import events, my_hours, now, static
from api.console.connections.routes import CONNECTION_ROUTES
from api.console.customers.routes import CUSTOMER_ROUTES
from api.console.forms import form_pairs
from api.console.hours.routes import HOURS_ROUTES
from api.console.operations.routes import OPERATION_ROUTES
from api.console.reports import page as reports
from api.console.sessions import CSRF_FIELD, CSRF_HEADER, READING, check_csrf, session_of, with_session
from api.console.signing_in import codes, links, user_pool
from api.console.signing_in.expired_forms import with_kept_form
from api.http.limits.clients import count_client
from schemas.identity.current_user import current_user_id

# Each method and path is repeated in the handler's decorator; tests/console/test_roles.py compares them.
CONSOLE_ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    # for everybody: no session
    ("GET", "/console/static/{digest:str}/{name:str}", static.send_file),
    ("GET", "/console/sign-in", codes.show_sign_in),
    ("POST", "/console/sign-in", codes.ask_for_code),
    ("GET", "/console/sign-in/code", codes.show_code),
    ("POST", "/console/sign-in/code", codes.sign_in),
    ("GET", "/console/sign-in/pool", user_pool.begin),
    ("GET", "/console/sign-in/callback", user_pool.come_back),
    ("POST", "/console/sign-in/kept", user_pool.show_kept_form),
    ("GET", "/console/link", links.show_link),
    ("POST", "/console/link", links.use_link),
    # with a session
    ("POST", "/console/sign-out", codes.sign_out),
    ("GET", "/console/events", events.listen),
    ("GET", "/console", now.show_now),
    ("GET", "/console/now/timers", now.show_timers),
    *CUSTOMER_ROUTES,
    ("GET", "/console/my-hours", my_hours.show_my_hours),
    ("GET", "/console/my-hours/csv", my_hours.download_my_hours),
    ("GET", "/console/reports", reports.show_reports),
    ("GET", "/console/reports/hours.csv", reports.download_report),
    *OPERATION_ROUTES,
    *HOURS_ROUTES,
    *CONNECTION_ROUTES,
]


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Raises RateLimited for a client that has had too many requests, and Forbidden for a write without the CSRF token of its
    session: a field of the form, or a header."""
    count_client(request)
    session = session_of(request)
    current_user_id.set(session.user.id if session is not None else None)
    if session is not None and request.scope["method"] not in READING:
        sent = request.headers.get(CSRF_HEADER)
        check_csrf(session, dict(await form_pairs(request)).get(CSRF_FIELD, "") if sent is None else sent)


CONSOLE = Router(
    "/",
    route_handlers=[handler for _, _, handler in CONSOLE_ROUTES],
    middleware=[with_kept_form, with_session],
    before_request=check_request,
    include_in_schema=False,
    opt={"exclude_from_auth": True},  # of tokens: a session takes their place
)
