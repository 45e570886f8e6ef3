"""`./stint verify` finds rows that were broken by direct SQL, and names them."""

from urllib.parse import urlsplit

import pytest

from tests.support.given import Given
from tests.support.installation import Installation, new_database, with_database

# each breaks one invariant, after the constraint that would have refused it is dropped
BREAKAGES = {
    "an entry on no bill": "UPDATE time_entries SET bill_id = NULL",
    "an entry on another day's bill": (
        "ALTER TABLE time_entries DROP CONSTRAINT time_entries_bill_id_user_id_customer_id_pillar_id_date_fkey;"
        "UPDATE time_entries SET date = date + 1"
    ),
    "an entry that its task left behind": (
        "INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), customer_id, 'Hosting' FROM tasks;"
        "UPDATE tasks SET pillar_id = (SELECT id FROM pillars p WHERE p.customer_id = tasks.customer_id AND NOT is_default)"
    ),
    "a flag without an overlap": "UPDATE time_entries SET overlap = true",
    "a wrong sum": "UPDATE time_bills SET seconds = seconds + 60",
    "a bill that nothing is on": "UPDATE time_entries SET deleted_at = now(); UPDATE time_bills SET seconds = 0",
    "hours of the year 3000": "UPDATE time_entries SET end_time = '3000-01-01T00:00:00Z'",
    "a rule that is not kept": (
        "ALTER TABLE time_bills ALTER COLUMN minutes DROP EXPRESSION; UPDATE time_bills SET minutes = minutes + 1"
    ),
    "two open bills for one key": (
        "DROP INDEX time_bills_open; INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment,"
        " rounding_mode) SELECT user_id, customer_id, pillar_id, date, 1, 'up' FROM time_bills"
    ),
    "a message sent and never taken up": (
        "INSERT INTO messages (id, actor, queue, body, max_attempts, state, sent_at)"
        " VALUES (gen_random_uuid(), 'stop_timer', 'timers', '{}', 5, 'sent', now() - interval '1 hour')"
    ),
    "a lease long lapsed": (
        "INSERT INTO messages (id, actor, queue, body, max_attempts, state, lease_token, lease_until)"
        " VALUES (gen_random_uuid(), 'x', 'mail', '{}', 5, 'calling', gen_random_uuid(), now() - interval '1 hour')"
    ),
    "work of a deleted customer": "UPDATE customers SET deleted_at = now()",
    "work on a deleted pillar": "UPDATE pillars SET is_default = false, deleted_at = now()",
    "a customer without its default pillar": "UPDATE pillars SET is_default = false",
    "an entry in Xero of a bill that is not approved": (
        "INSERT INTO xero_entries (bill_id, entry_ids) SELECT id, ARRAY['there'] FROM time_bills"
    ),
    "a stop without its entry": "DELETE FROM time_entries; UPDATE time_bills SET seconds = 0",
}
AFTER_APPROVAL = {
    "an approved sum": (
        "ALTER TABLE time_bills DROP CONSTRAINT approved_is_frozen;"
        "UPDATE time_entries SET end_time = end_time + interval '1 minute'; UPDATE time_bills SET seconds = seconds + 60"
    ),
    "an approved bill of a future day": (
        "ALTER TABLE time_entries DROP CONSTRAINT time_entries_bill_id_user_id_customer_id_pillar_id_date_fkey;"
        "UPDATE time_bills SET date = '3000-01-01'"
    ),
    "an approved bill's entry": "UPDATE time_entries SET notes = 'changed'",
    "an approved bill that says nothing of Xero": "UPDATE time_bills SET xero_status = 'none'",
    "a synced bill of which nothing is known in Xero": (
        "UPDATE time_bills SET xero_status = 'synced', xero_time_entry_id = 'gone'"
    ),
    "a bill that nothing carries to Xero": (
        "UPDATE time_bills SET xero_status = 'queued'; DELETE FROM messages WHERE actor = 'sync_bill'"
    ),
}


@pytest.mark.parametrize(("breakages", "approved"), [(BREAKAGES, False), (AFTER_APPROVAL, True)], ids=["pending", "approved"])
def test_each_broken_invariant_is_named(breakages: dict[str, str], approved: bool, own: Installation) -> None:
    own.start().wait_until_ready()
    given = Given(own)
    admin = given.admin()
    bill = given.approved_bill(admin, admin) if approved else given.bill(admin)
    given.close()
    own.verify()
    own.stop()  # so that nothing corrects it in the meantime

    for what, breakage in breakages.items():
        broken = Installation(copy_of(own.database_url), own.amqp_url, own.directory)
        with broken.sql() as conn:
            conn.execute(breakage.encode())
        tables = ("time_entries", "messages", "time_bills", "tasks", "customers", "pillars")
        rows = broken.rows(" UNION ".join(f"SELECT id FROM {table}" for table in tables))
        ids = {bill["id"], *(str(row[0]) for row in rows)}
        found = broken.command("verify")
        broken.stop()
        assert found.returncode == 1, (what, found.stdout)
        assert all(any(one in line for one in ids) for line in found.stdout.splitlines() if line.startswith("BROKEN")), (
            what,
            found.stdout,
        )
        assert "BROKEN" in found.stdout, what


def copy_of(database_url: str) -> str:
    """A database that may be broken."""
    return new_database(with_database(database_url, "postgres"), template=urlsplit(database_url).path.removeprefix("/"))
