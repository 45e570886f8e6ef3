"""A dead letter names the people, customers, tasks, entries and time bills that it is about, and the day."""

from uuid import UUID, uuid4

from schemas.messages import MODELS
from schemas.outbox import message_subjects
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.installation import new_database

# ids of bodies that name none of these
OTHER_IDS = {"code_id", "job_id", "timer_id", "channel_id", "slack_user_id", "view_id", "unfurl_id", "slack_id", "project_id"}


def test_each_id_in_a_body_is_looked_up_or_names_nothing_of_the_firm() -> None:
    named = {field for model in MODELS.values() for field in model.model_fields if field.endswith(("_id", "_ids", "_by"))}
    assert named - OTHER_IDS == set(message_subjects.FIELDS)


def test_each_kind_of_body_has_customer_person_and_day(database_url: str) -> None:
    url = new_database(database_url)

    async def make() -> tuple[dict[str, str], str]:
        async with connected(url) as conn:
            firm = await firm_rows.firm(conn)
            bill = await firm_rows.bill(conn, firm)
            entry = await firm_rows.entry(conn, firm, bill)
            email = await conn.value("SELECT email FROM users WHERE id = %s", (firm.user,))
        ids = {"user_id": firm.user, "task_id": firm.task, "customer_id": firm.customer, "entry_id": entry, "bill_id": bill}
        return {name: str(row_id) for name, row_id in ids.items()}, email

    ids, email = over(url, lambda conn: make())
    late = {"start_time": "2026-03-02T23:30:00Z", "entry_id": str(uuid4())}
    bodies = [
        {"user_id": ids["user_id"], "task_id": ids["task_id"], **late},
        {"user_id": ids["user_id"], "day": "2026-03-01"},
        {"bill_id": ids["bill_id"]},
        {"bill_ids": [ids["bill_id"], str(uuid4()), 3]},
        {"entry_id": ids["entry_id"]},
        {"customer_id": ids["customer_id"], "to": "somebody@else.example"},
        {"to": email.upper()},
        {"to": "\0", "user_id": "x", "day": "x"},
        "not an object",
    ]
    found = over(url, lambda conn: message_subjects.find_subjects(conn, bodies, zone="Europe/Berlin"))
    shown = [[(s.kind, s.name, s.person, s.customer, s.day and s.day.isoformat()) for s in subjects] for subjects in found]
    bill_row = ("time bill", "General Support", "Jo", "Acme", "2026-03-02")
    assert shown == [
        [("person", "Jo", None, None, "2026-03-03"), ("task", "Servers", None, "Acme", None)],
        [("person", "Jo", None, None, "2026-03-01")],
        [bill_row],
        [bill_row],
        [("time entry", "Servers", "Jo", "Acme", "2026-03-02")],
        [("customer", "Acme", None, None, None)],
        [("person", "Jo", None, None, None)],
        [],
        [],
    ]
    assert found[4][0].seconds == 3600 and found[6][0].id == UUID(ids["user_id"])
