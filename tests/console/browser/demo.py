"""A firm of twenty on a Monday morning: the demo's hours, some of its customers in Xero, and what went wrong at night."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ops.demo.run import Filled, fill
from schemas.hours.entry_rules import EntryRules
from schemas.postgres.connection import connect
from tests.support.apart import run_apart
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, new_database
from tests.support.slack_sandbox import running_slack_sandbox
from tests.support.xero_sandbox import XeroSandbox, running_xero

CONSULTANTS, ENTRIES = 20, 2_800
UNMAPPED = 5  # customers, those with the most bills
_ENVIRONMENT = {"XERO_CALLS_PER_MINUTE": "100000", "STINT_XERO_CALL_SECONDS": "2"}
_FORGET_TIMER = """
    UPDATE timers SET start_time = start_time - interval '14 hours'
    WHERE id = (SELECT id FROM timers ORDER BY id LIMIT 1) RETURNING 1
"""


# What the relay would have recorded in the hour before, had it run: more to do every twenty minutes.
_HOUR_BEFORE = """
    INSERT INTO queue_samples (at, queue, waiting, later, running, dead, handled, oldest_seconds)
    SELECT date_bin('30 seconds', now(), 'epoch') - n * interval '30 seconds', q.name, greatest(0, round(q.size * load) - 2), 0,
           round(q.size * load / 3), 0, round(-q.size * (n - 6 * sin(n / 6.4))), greatest(0, q.size * load / 4 - 1)
    FROM generate_series(1, 120) n,
         (VALUES ('timers', 9), ('bills', 14), ('xero', 6), ('slack', 4), ('mail', 2)) q (name, size),
         LATERAL (SELECT 1 + sin(n / 6.4 + q.size) + (n * q.size %% 7) / 9.0 AS load) l
    RETURNING 1
"""


@dataclass
class DemoFirm:
    """The firm, with one of its admins and one of its consultants."""

    stint: Installation
    xero: XeroSandbox
    given: Given
    admin: Person
    consultant: Person


@contextmanager
def running_demo(database_url: str, amqp_url: str, directory: Path) -> Iterator[DemoFirm]:
    """The firm, which runs while the block does."""
    with running_xero() as xero, running_slack_sandbox() as slack:
        xero.disable_limits()
        environment = xero.environment | slack.environment | _ENVIRONMENT
        stint = Installation(new_database(database_url), amqp_url, directory, **environment)
        filled = run_apart(_filled(stint))
        try:
            stint.start("api").wait_until_ready()
            with closing(Given(stint)) as given:
                admin = given.person("internal_admin", email=filled.admin_email)
                firm = DemoFirm(stint, xero, given, admin, given.person(email=filled.consultant_email))
                _connect(firm)
                _invite(firm)
                stint.rows(_FORGET_TIMER)
                stint.rows(_HOUR_BEFORE)
                stint.start("relay", "work")
                given.settled(seconds=60)
                yield firm
        finally:
            stint.stop()


async def _filled(stint: Installation) -> Filled:
    async with await connect(stint.settings) as conn:
        rules = EntryRules.of(stint.settings)
        return await fill(conn, entries=ENTRIES, consultants=CONSULTANTS, rules=rules)


def _connect(firm: DemoFirm) -> None:
    """Connects Xero, and maps most customers. The project of one of them is closed then, so its bills are refused."""
    consent = firm.admin.get("/api/xero/auth-url")
    callback = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
    firm.admin.post("/api/xero/connect", {"code": callback["code"], "state": callback["state"]}, status=200)
    for (email,) in firm.stint.rows("SELECT email FROM users WHERE role = 'internal_user'"):
        firm.xero.user(email)
    by_bills = """
        SELECT c.id::text, c.name FROM customers c JOIN time_bills b ON b.customer_id = c.id AND b.status = 'approved'
        WHERE c.active GROUP BY c.id ORDER BY count(*), c.id
    """
    closed, *others = firm.stint.rows(by_bills)[:-UNMAPPED]
    project = _map(firm, *closed)
    for customer_id, name in others:
        _map(firm, customer_id, name)
    firm.xero.close_project(project)


def _map(firm: DemoFirm, customer_id: str, name: str) -> Json:
    project = firm.xero.project(name)
    task = firm.xero.task(project)
    firm.admin.put(f"/api/customers/{customer_id}", {"xeroProjectId": project["projectId"]})
    for pillar in firm.admin.get(f"/api/customers/{customer_id}/pillars")["items"]:
        firm.admin.put(f"/api/customers/{customer_id}/pillars/{pillar['id']}", {"xeroTaskId": task["taskId"]})
    return project


def _invite(firm: DemoFirm) -> None:
    """Invites somebody. There is no server for mails, so this one becomes a dead letter."""
    [(customer_id,)] = firm.stint.rows("SELECT id::text FROM customers WHERE active ORDER BY name LIMIT 1")
    body = {"email": "mira.lind@arcadia-travel.example.com", "name": "Mira Lind", "role": "customer_user"}
    firm.admin.post(f"/api/customers/{customer_id}/users/invite", body)
