"""Every route: a valid request, and the roles that may send it. A new route needs a line here, in the order of api/app.py;
test_roles.py sends each request with every role."""

from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True)
class RouteCase:
    """The expected statuses of one route, with a body and a query that are valid for the customer of tests/api/tenants.py.

    The four statuses are for an admin, another internal user, and the customer's own admins and users. The others follow from
    them: 401 without a valid token, 403 without a role, and 404 for users of another customer, if their role would be allowed
    and the path contains an id of the first customer. `needs_token`: or in the console a session; `nobody`: the status
    without a session there, if that does not lead to the page to sign in.
    """

    admin: int
    internal: int
    customer_admin: int
    customer_user: int
    nobody: int = 0
    needs_token: bool = True
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    is_stream: bool = False

    def with_body(self, **body: Any) -> Self:
        """With this JSON, or these fields of a form. A name in braces, as in the path, is replaced by an id of the customer."""
        return replace(self, body=body)

    def with_query(self, **query: Any) -> Self:
        """With these query parameters."""
        return replace(self, query=query)

    def except_for(self, **statuses: Any) -> Self:
        """With another status for one of the roles."""
        return replace(self, **statuses)

    def as_stream(self) -> Self:
        """The answer is endless: its beginning is enough."""
        return replace(self, is_stream=True)


def public(status: int = 200) -> RouteCase:
    """The same status for everybody, with or without a token. For routes with another authentication, such as Slack's
    signature, it is the status without that."""
    return RouteCase(status, status, status, status, status, needs_token=False)


def everybody(status: int = 200) -> RouteCase:
    """For every role."""
    return RouteCase(status, status, status, status)


def customer_admins(status: int = 200) -> RouteCase:
    """For internal users and the customer's admins."""
    return RouteCase(status, status, status, 403)


def internal_users(status: int = 200) -> RouteCase:
    """For internal users."""
    return RouteCase(status, status, 403, 403)


def admins(status: int = 200) -> RouteCase:
    """For the firm's admins."""
    return RouteCase(status, 403, 403, 403)


# on an approved bill: 409 for an admin, 403 for a consultant who is not the owner
LOCKED = internal_users(409).except_for(internal=403)
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"

# In the order of the requests; refused ones are sent first. A timer has to be started before it is read and stopped.
TABLE: dict[str, RouteCase] = {
    # the signed-in user
    "GET /api/me": everybody(),
    "GET /api/me/working-hours": internal_users(),
    "PATCH /api/me/working-hours": internal_users().with_body(end="17:30"),
    # customers
    "GET /api/customers": everybody(),
    "POST /api/customers": internal_users(201).with_body(name="Acme"),
    "GET /api/customers/{customer_id}": everybody(),
    "PUT /api/customers/{customer_id}": internal_users().with_body(notes="new"),
    "DELETE /api/customers/{customer_id}": internal_users(409),  # it has an approved bill
    # a customer's users
    "GET /api/customers/{customer_id}/users": customer_admins(),
    "POST /api/customers/{customer_id}/users/invite": customer_admins(201).with_body(
        email="{customer_id}@acme.example", name="Jo"
    ),
    "POST /api/customers/{customer_id}/users/resend-invite": customer_admins(202).with_body(userId="{user_id}"),
    "DELETE /api/customers/{customer_id}/users/{user_id}": customer_admins(204),
    # leads
    "GET /api/leads": internal_users(),
    # pillars
    "GET /api/customers/{customer_id}/pillars": everybody(),
    "POST /api/customers/{customer_id}/pillars": internal_users(201).with_body(name="Network"),
    "GET /api/customers/{customer_id}/pillars/{pillar_id}": everybody(),
    "PUT /api/customers/{customer_id}/pillars/{pillar_id}": internal_users().with_body(active=False),
    "DELETE /api/customers/{customer_id}/pillars/{pillar_id}": internal_users(204),
    # focus
    "PUT /api/customers/{customer_id}/focus": internal_users(),
    "GET /api/focus": internal_users(),
    "DELETE /api/customers/{customer_id}/focus": internal_users(204),
    # live events
    "GET /api/events": everybody().as_stream(),
    # tasks
    "GET /api/tasks": everybody(),
    "POST /api/tasks": internal_users(201).with_body(title="Fix it", customerId="{customer_id}"),
    "GET /api/tasks/internal-users": internal_users(),
    "GET /api/tasks/{task_id}": everybody(),
    "PUT /api/tasks/{task_id}": internal_users().with_body(title="Fixed"),
    # timers
    "POST /api/tasks/{task_id}/start": internal_users(201),
    "GET /api/active-timers": internal_users(),
    "GET /api/active-timers/{owner}": internal_users(),
    "POST /api/tasks/{task_id}/stop": internal_users(202),
    "POST /api/active-timers/{owner}/stop": internal_users(202),  # it repeats the stop
    "PUT /api/active-timers/{owner}": internal_users(201).with_body(taskId="{task_id}"),
    "DELETE /api/active-timers/{owner}": internal_users(204),
    # time entries
    "GET /api/time-entries": everybody(),
    "POST /api/time-entries": internal_users(201).with_body(taskId="{task_id}", startTime="2026-03-05T09:00:00Z", duration=60),
    "GET /api/time-entries/{entry_id}": everybody(),
    "PATCH /api/time-entries/{entry_id}": LOCKED.with_body(duration=60),
    "POST /api/time-entries/{entry_id}/notes": LOCKED.with_body(append="mine"),
    "DELETE /api/time-entries/{entry_id}": LOCKED,
    # time bills
    "GET /api/time-bills": everybody(),
    "GET /api/time-bills/{bill_id}": everybody(),
    "PATCH /api/time-bills/{bill_id}": LOCKED.with_body(status="approved"),
    "POST /api/time-bills/approve-all": admins().with_body(bills=[{"id": UNKNOWN_ID, "version": 1}]),
    "POST /api/time-bills/recompute": admins(202).with_body(dryRun=True, customerId="{customer_id}"),
    "GET /api/time-bills/recompute/{job_id}": admins(),
    # reports
    "GET /api/reports/hours": everybody().with_query(groupBy="customer,month"),
    # Slack; refused without its signature
    "POST /api/slack/events": public(401),
    "POST /api/slack/interactivity": public(401),
    "GET /api/slack/channel-mappings": internal_users(),
    "POST /api/slack/channel-mappings": internal_users(201).with_body(
        channelId="{channel_id}", channelName="acme", customerId="{customer_id}"
    ),
    "PUT /api/slack/channel-mappings/{mapping_id}": internal_users().with_body(channelName="acme-support"),
    "DELETE /api/slack/channel-mappings/{mapping_id}": internal_users(204),
    # sync
    "GET /api/sync": internal_users(),
    "POST /api/sync": internal_users().with_body(operations=[]),
    # Xero, which is not configured here; tests/xero tests it
    "GET /api/xero/auth-url": admins(409),
    "POST /api/xero/connect": admins(409).with_body(code="code", state="state"),
    "GET /api/xero/status": internal_users(),
    "DELETE /api/xero/disconnect": admins(204),
    "POST /api/xero/time-bills/send": admins().with_body(ids=[UNKNOWN_ID], reason="fixed"),
    "POST /api/xero/time-bills/accept": admins().with_body(ids=[UNKNOWN_ID], reason="agreed with the customer"),
    "GET /api/xero/reconciliation": internal_users(),
    "GET /api/xero/projects": internal_users(409),
    "GET /api/xero/projects/{project_id}/tasks": internal_users(409),
    # dead letters
    "GET /api/dead-letters": admins(),
    "GET /api/dead-letters/groups": admins(),
    "POST /api/dead-letters/replay": admins(202).with_body(select={"ids": [UNKNOWN_ID]}, reason="fixed"),
    "GET /api/dead-letters/replays": admins(),
    "GET /api/dead-letters/replays/{replay_id}": admins(),
    "GET /api/dead-letters/{letter_id}": admins(),
    "POST /api/dead-letters/{letter_id}/edit": admins(422).with_body(body={}, reason="fixed"),
    "POST /api/dead-letters/discard": admins().with_body(select={"ids": [UNKNOWN_ID]}, reason="not needed"),
    "POST /api/dead-letters/restore": admins().with_body(select={"ids": [UNKNOWN_ID]}, reason="a mistake"),
    "POST /api/dead-letters/trigger": admins(422).with_body(kind="sync_bill", id=UNKNOWN_ID, reason="wrong in Xero"),
    "DELETE /api/dead-letters/replays/{replay_id}": admins(409),  # it has ended
    # signs the sender out: nobody else may be refused after it
    "POST /auth/sign-out": everybody(204),
    # without a token
    "POST /auth/code": public(202).with_body(email="nobody@example.com"),
    "POST /auth/token": public(401).with_body(email="nobody@example.com", code="123456"),
    "POST /api/leads": public(201).with_body(name="Ada Park", email="ada@example.com"),
    "GET /health/live": public(),
    "GET /health/ready": public(),
    "GET /metrics": public(),
    "GET /diagnosis": public(401),
    "GET /.well-known/jwks.json": public(),
}
