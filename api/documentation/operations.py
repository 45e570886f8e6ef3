"""Tags and operation ids, from which generators make the classes and methods of a client."""

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Tag
from pydantic.alias_generators import to_camel

# by the module of the handler, in the order of the page
TAGS = {
    "me": ("Current user", "Who the token belongs to, and what they may do."),
    "sign_in": ("Sign-in", "Signing in with a code by mail, without a user pool."),
    "customers": ("Customers", "The firm's customers, with their rules of rounding."),
    "customer_users": ("Customer users", "The people of a customer who may see its data."),
    "pillars": ("Pillars", "The areas of work agreed with a customer."),
    "tasks": ("Tasks", "The work to do for a customer, and the consultants who can do it."),
    "timers": ("Timers", "Starting and stopping the timer on a task."),
    "active_timers": ("Timers", "Starting and stopping the timer on a task."),
    "time_entries": ("Time entries", "Recorded hours, from timers or by hand."),
    "time_bills": ("Time bills", "The hours of a consultant for a customer, a pillar and a day, to approve or reject."),
    "hours": ("Reports", "Sums of recorded and billed hours."),
    "focus": ("Focus", "Which customer each consultant is looking at."),
    "events": ("Live events", "A stream of what changes."),
    "sync": ("Sync", "Changes in both directions, for clients that also work offline."),
    "leads": ("Leads", "Messages from the contact form of the firm's site."),
    "xero": ("Xero", "The connection to Xero, and what hours are mapped to there."),
    "channel_mappings": ("Slack", "Slack's requests, and which channel belongs to which customer."),
    "routes": ("Slack", "Slack's requests, and which channel belongs to which customer."),
    "dead_letters": ("Dead letters", "Messages that need a person: look at them, replay or discard them."),
    "health": ("Operations", "Health, metrics and public keys."),
    "diagnosis": ("Operations", "Health, metrics and public keys."),
}
# operation ids of handlers whose name has no noun
OPERATION_IDS = {
    "invite": "inviteCustomerUser",
    "listen": "listenToEvents",
    "approve_all": "approveTimeBills",
    "write_notes": "writeTimeEntryNotes",
    "receive_event": "receiveSlackEvent",
    "receive_interaction": "receiveSlackInteraction",
    "get_auth_url": "getXeroAuthUrl",
    "connect": "connectXero",
    "get_status": "getXeroStatus",
    "get_reconciliation": "getXeroReconciliation",
    "disconnect": "disconnectXero",
    "list_projects": "listXeroProjects",
    "ask_for_code": "requestSignInCode",
    "sign_in_with_code": "signIn",
    "live": "getLiveness",
    "ready": "getReadiness",
    "metrics": "getMetrics",
    "diagnosis": "getDiagnosis",
    "jwks": "getPublicKeys",
}


def tag(handler: HTTPRouteHandler) -> str:
    """The name of the route's tag. Raises KeyError for a module that is not in TAGS."""
    return TAGS[_module(handler)][0]


def tags() -> list[Tag]:
    """All tags with their descriptions."""
    return [Tag(name=name, description=description) for name, description in dict(TAGS.values()).items()]


def operation_id(handler: HTTPRouteHandler) -> str:
    """A verb and a noun, such as `stopTimer`: the handler's name, or the one in OPERATION_IDS. Stable: clients are generated
    from it."""
    name = handler.fn.__name__
    if _module(handler) == "xero" and name == "list_tasks":
        return "listXeroTasks"
    return OPERATION_IDS.get(name) or to_camel(name)


def _module(handler: HTTPRouteHandler) -> str:
    return handler.fn.__module__.rpartition(".")[2]
