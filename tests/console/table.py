"""Every route of the console: a valid request, and the answer to each role. A new route needs a line here, in the order of
CONSOLE_ROUTES in api/console/routes.py; test_roles.py sends each request with every role."""

from tests.api.table import RouteCase, admins, everybody, internal_users, public


def customers_users(status: int = 200) -> RouteCase:
    """For a customer's own people."""
    return RouteCase(403, 403, status, status)


ACTION = {"reason": "fixed", "shown": "2", "shown_at": "2026-03-02T09:00:00Z"}

# In the order of the requests; refused ones are sent first.
TABLE: dict[str, RouteCase] = {
    "GET /console/static/{digest}/{name}": public(),
    "GET /console/sign-in": public().except_for(admin=303, internal=303, customer_admin=303, customer_user=303),
    "POST /console/sign-in": public(303).with_body(email="nobody@example.com"),
    "GET /console/sign-in/code": public(),
    "POST /console/sign-in/code": public(422).with_body(code="123456"),
    "GET /console/sign-in/pool": public(404),
    "GET /console/sign-in/callback": public(404),
    "POST /console/sign-in/kept": public(303),
    "GET /console/link": public(404),
    "POST /console/link": public(404).with_body(token="unknown"),
    "GET /console/events": everybody().as_stream(),
    "GET /console/now/timers": internal_users(),
    "GET /console/my-hours": customers_users(),
    "GET /console/my-hours/csv": customers_users(),
    "GET /console": everybody().except_for(customer_admin=303, customer_user=303),
    "GET /console/queues": admins(),
    "GET /console/hours": internal_users(),
    "GET /console/hours/tasks": internal_users().with_query(search="a"),
    "POST /console/hours/start": internal_users(422).with_body(task_id="nonsense"),
    "POST /console/hours/stop": internal_users(422).with_body(timer_id="{entry_id}"),
    "POST /console/hours/timer": internal_users(422).with_body(task_id="{task_id}", start_time="nonsense", version="1"),
    "POST /console/hours/discard": internal_users(422).with_body(timer_id="{entry_id}", version="1"),
    "POST /console/hours/log": internal_users(422).with_body(id="nonsense"),
    # of somebody else
    "GET /console/hours/entries/{entry_id}": admins(),
    "POST /console/hours/entries/{entry_id}": admins(422).with_body(version="0"),
    "POST /console/hours/entries/{entry_id}/delete": admins(422).with_body(version="999"),
    "GET /console/approve": admins(),
    "POST /console/approve": admins(422).with_body(bills="nonsense"),
    "POST /console/approve/{bill_id}": admins(422).with_body(version="1", status="rejected", rejection_note=""),
    "GET /console/customers": internal_users().with_query(search="a", inactive="on"),
    "GET /console/customers/new": internal_users(),
    "POST /console/customers": internal_users(422),
    "GET /console/customers/{customer_id}": internal_users(),
    "GET /console/customers/{customer_id}/edit": internal_users(),
    "POST /console/customers/{customer_id}/edit": internal_users(422).with_body(name="Acme", version="999"),
    "POST /console/customers/{customer_id}/delete": internal_users(422).with_body(version="999"),
    "POST /console/customers/{customer_id}/pillars": internal_users(422).with_body(name="General Support"),
    "GET /console/customers/{customer_id}/pillars/{pillar_id}": internal_users(),
    "POST /console/customers/{customer_id}/pillars/{pillar_id}": internal_users(422).with_body(name="Hosting", version="999"),
    "POST /console/customers/{customer_id}/pillars/{pillar_id}/delete": internal_users(422).with_body(version="999"),
    "GET /console/customers/{customer_id}/people": internal_users(),
    "POST /console/customers/{customer_id}/people": internal_users(422).with_body(name="Jo", email="nonsense"),
    "POST /console/customers/{customer_id}/people/{user_id}/resend": internal_users(303),
    "GET /console/customers/{customer_id}/tasks": internal_users().with_query(status="open"),
    "POST /console/customers/{customer_id}/tasks": internal_users(422).with_body(title=""),
    "GET /console/customers/{customer_id}/tasks/{task_id}": internal_users(),
    "POST /console/customers/{customer_id}/tasks/{task_id}": internal_users(422).with_body(
        title="Servers", status="open", pillar_id="{pillar_id}", version="999"
    ),
    "POST /console/customers/{customer_id}/tasks/{task_id}/status": internal_users(422).with_body(status="open", version="999"),
    "GET /console/customers/{customer_id}/mappings": internal_users(),
    "GET /console/customers/{customer_id}/mappings/channels": internal_users(),
    "POST /console/customers/{customer_id}/mappings/channels": internal_users(422).with_body(channel_id="c", channel_name="x"),
    "GET /console/customers/{customer_id}/mappings/channels/{mapping_id}": internal_users(),
    "POST /console/customers/{customer_id}/mappings/channels/{mapping_id}": internal_users(422).with_body(
        channel_name="acme", version="999"
    ),
    "POST /console/customers/{customer_id}/mappings/channels/{mapping_id}/delete": internal_users(422).with_body(version="999"),
    "GET /console/customers/{customer_id}/xero": internal_users(),
    "POST /console/customers/{customer_id}/xero": internal_users(422).with_body(version="999"),
    "GET /console/connections": admins(),
    "POST /console/connections/xero/consent": admins(303),
    "GET /console/connections/xero/callback": admins(303).with_query(error="access_denied"),
    "POST /console/connections/xero/disconnect": admins(303),
    "POST /console/connections/xero/send-failed": admins(422),
    "GET /console/connections/xero/differences": admins(),
    "POST /console/connections/xero/differences": admins(422).with_body(action="send", reason="x"),
    "GET /console/connections/slack": admins(),
    "POST /console/connections/mail": admins(303),
    "GET /console/connections/mail/{message_id}": admins(404),
    # two admins may remove a person at the same time
    "POST /console/customers/{customer_id}/people/{user_id}/remove": internal_users(303),
    "GET /console/reports": internal_users().with_query(by="pillar", then="month", customer_id="{customer_id}"),
    "GET /console/reports/hours.csv": internal_users().with_query(by="person", user_id="{user_id}"),
    "GET /console/dead-letters": admins(),
    "GET /console/dead-letters/list": admins().with_query(queue="mail", q="x"),
    "GET /console/dead-letters/replay": admins().with_query(ids="{letter_id}"),
    # the count that was shown is another one, so nothing is done
    "POST /console/dead-letters/replay": admins(422).with_body(ids="{letter_id}", **ACTION),
    "GET /console/dead-letters/discard": admins().with_query(ids="{letter_id}"),
    "POST /console/dead-letters/discard": admins(422).with_body(ids="{letter_id}", **ACTION),
    "GET /console/dead-letters/restore": admins().with_query(ids="{letter_id}"),
    "POST /console/dead-letters/restore": admins(422).with_body(ids="{letter_id}", **ACTION),
    "GET /console/dead-letters/replays": admins(),
    "GET /console/dead-letters/replays/{replay_id}": admins(),
    "POST /console/dead-letters/replays/{replay_id}/cancel": admins(303),  # it has ended
    "GET /console/dead-letters/{letter_id}": admins(),
    "GET /console/dead-letters/{letter_id}/edit": admins(),
    "POST /console/dead-letters/{letter_id}/edit": admins(422).with_body(body="[]", reason="fixed", shown_replays="1"),
    # ends the session: nothing else may be sent after it
    "POST /console/sign-out": everybody(303).except_for(nobody=303),
}
