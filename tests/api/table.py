"""Every route: a request that would be right, and who may make it. Whoever adds a route adds its line here, at the place where
it stands in api/app.py; test_roles.py asks each as everybody."""

from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """The statuses of one route, with a body and a query that are right for the customer of tests/api/tenants.py.

    They are for an admin, for another of the firm's people, and for the customer's own admins and users. What the others get
    follows: 401 without a token that is good, 403 without a role, and for another customer's people 404, where the path names
    something that is not theirs and their role would do.
    """

    admin: int
    internal: int
    customer_admin: int
    customer_user: int
    needs_token: bool = True
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    is_stream: bool = False

    def sends(self, **body: Any) -> Self:
        """With this JSON; a name in braces in it, as in the path, becomes an id of the customer's."""
        return replace(self, body=body)

    def asks(self, **query: Any) -> Self:
        """With these query parameters."""
        return replace(self, query=query)

    def but(self, **statuses: Any) -> Self:
        """With another status for one of the roles."""
        return replace(self, **statuses)

    def streams(self) -> Self:
        """The answer never ends: its beginning is enough."""
        return replace(self, is_stream=True)


def public(status: int = 200) -> Asked:
    """The same for all, with whatever token or none: also for what is let in by something else than a token, as Slack is by its
    signature; then it is the status without that."""
    return Asked(status, status, status, status, needs_token=False)


def everybody(status: int = 200) -> Asked:
    """For all who have a role."""
    return Asked(status, status, status, status)


def customer_admins(status: int = 200) -> Asked:
    """For the firm's own people, and the customer's admins."""
    return Asked(status, status, status, 403)


def firm(status: int = 200) -> Asked:
    """For the firm's own people."""
    return Asked(status, status, 403, 403)


def admins(status: int = 200) -> Asked:
    """For the firm's admins."""
    return Asked(status, 403, 403, 403)


# on an approved bill: an admin is told that, another consultant that it is not theirs
LOCKED = firm(409).but(internal=403)
NOBODYS = "00000000-0000-4000-8000-000000000000"

# In the order in which they are asked, those that are refused first: a timer is started before it is read and stopped.
TABLE: dict[str, Asked] = {
    # who am I
    "GET /api/me": everybody(),
    # customers
    "GET /api/customers": everybody(),
    "POST /api/customers": firm(201).sends(name="Acme"),
    "GET /api/customers/{customer_id}": everybody(),
    "PUT /api/customers/{customer_id}": firm().sends(notes="new"),
    "DELETE /api/customers/{customer_id}": firm(409),  # it has an approved bill
    # a customer's users
    "GET /api/customers/{customer_id}/users": customer_admins(),
    "POST /api/customers/{customer_id}/users/invite": customer_admins(201).sends(email="{customer_id}@acme.example", name="Jo"),
    "POST /api/customers/{customer_id}/users/resend-invite": customer_admins(202).sends(userId="{user_id}"),
    "DELETE /api/customers/{customer_id}/users/{user_id}": customer_admins(204),
    # leads
    "GET /api/leads": firm(),
    # pillars
    "GET /api/customers/{customer_id}/pillars": everybody(),
    "POST /api/customers/{customer_id}/pillars": firm(201).sends(name="Network"),
    "GET /api/customers/{customer_id}/pillars/{pillar_id}": everybody(),
    "PUT /api/customers/{customer_id}/pillars/{pillar_id}": firm().sends(active=False),
    "DELETE /api/customers/{customer_id}/pillars/{pillar_id}": firm(204),
    # who is looking at which customer
    "PUT /api/customers/{customer_id}/focus": firm(),
    "GET /api/focus": firm(),
    "DELETE /api/customers/{customer_id}/focus": firm(204),
    # what changes, while it does
    "GET /api/events": everybody().streams(),
    # tasks
    "GET /api/tasks": everybody(),
    "POST /api/tasks": firm(201).sends(title="Mend it", customerId="{customer_id}"),
    "GET /api/tasks/internal-users": firm(),
    "GET /api/tasks/{task_id}": everybody(),
    "PUT /api/tasks/{task_id}": firm().sends(title="Mended"),
    # timers
    "POST /api/tasks/{task_id}/start": firm(201),
    "GET /api/active-timers/{owner}": firm(),
    "POST /api/tasks/{task_id}/stop": firm(202),
    "PUT /api/active-timers/{owner}": firm(201).sends(taskId="{task_id}"),
    "DELETE /api/active-timers/{owner}": firm(204),
    # time entries
    "GET /api/time-entries": everybody(),
    "POST /api/time-entries": firm(201).sends(taskId="{task_id}", startTime="2026-03-05T09:00:00Z", duration=60),
    "GET /api/time-entries/{entry_id}": everybody(),
    "PATCH /api/time-entries/{entry_id}": LOCKED.sends(duration=60),
    "POST /api/time-entries/{entry_id}/notes": LOCKED.sends(append="mine"),
    "DELETE /api/time-entries/{entry_id}": LOCKED,
    # time bills
    "GET /api/time-bills": everybody(),
    "GET /api/time-bills/{bill_id}": everybody(),
    "PATCH /api/time-bills/{bill_id}": LOCKED.sends(status="approved"),
    "POST /api/time-bills/approve-all": admins().sends(bills=[{"id": NOBODYS, "version": 1}]),
    "POST /api/time-bills/recompute": admins(202).sends(dryRun=True, customerId="{customer_id}"),
    "GET /api/time-bills/recompute/{job_id}": admins(),
    # Slack; nothing is let in without its signature
    "POST /api/slack/events": public(401),
    "POST /api/slack/interactivity": public(401),
    "GET /api/slack/channel-mappings": firm(),
    "POST /api/slack/channel-mappings": firm(201).sends(
        channelId="{channel_id}", channelName="acme", customerId="{customer_id}"
    ),
    "PUT /api/slack/channel-mappings/{mapping_id}": firm().sends(channelName="acme-support"),
    "DELETE /api/slack/channel-mappings/{mapping_id}": firm(204),
    # sync
    "GET /api/sync": firm(),
    "POST /api/sync": firm().sends(operations=[]),
    # Xero, which is not set up here: tests/xero asks where it is
    "GET /api/xero/auth-url": admins(409),
    "POST /api/xero/connect": admins(409).sends(code="code", state="state"),
    "GET /api/xero/status": firm(),
    "DELETE /api/xero/disconnect": admins(204),
    "GET /api/xero/projects": firm(409),
    "GET /api/xero/projects/{project_id}/tasks": firm(409),
    # dead letters
    "GET /api/dead-letters": admins(),
    "GET /api/dead-letters/groups": admins(),
    "POST /api/dead-letters/replay": admins(202).sends(select={"ids": [NOBODYS]}, reason="mended"),
    "GET /api/dead-letters/replays/{replay_id}": admins(),
    "GET /api/dead-letters/{letter_id}": admins(),
    "POST /api/dead-letters/{letter_id}/edit": admins(422).sends(body={}, reason="mended"),
    "POST /api/dead-letters/discard": admins().sends(select={"ids": [NOBODYS]}, reason="not needed"),
    "POST /api/dead-letters/restore": admins().sends(select={"ids": [NOBODYS]}, reason="a mistake"),
    "DELETE /api/dead-letters/replays/{replay_id}": admins(409),  # it has ended
    # without a token
    "POST /auth/code": public(202).sends(email="nobody@example.com"),
    "POST /auth/token": public(401).sends(email="nobody@example.com", code="123456"),
    "POST /api/leads": public(201).sends(name="Ada Park", email="ada@example.com"),
    "GET /health/live": public(),
    "GET /health/ready": public(),
    "GET /metrics": public(),
    "GET /.well-known/jwks.json": public(),
}
