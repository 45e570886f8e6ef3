"""A migration that would lock out the version before it is refused."""

from pathlib import Path
from textwrap import dedent

import pytest

from schemas.postgres.migrate import IN_BATCHES, LOCK_SECONDS, MIGRATIONS, OUTSIDE_OF_A_TRANSACTION
from tests.postgres.migration_rules import MOST_LOCKED, refusals
from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.unit

RULES_SINCE = "0045"  # earlier files were read by a person, and run beside traffic: tests/faults/upgrade/
FILES = sorted(MIGRATIONS.glob("*.sql"))
OUTSIDE = f"{OUTSIDE_OF_A_TRANSACTION}\n"
BATCHES = f"{IN_BATCHES}\n"
BATCH = """WITH batch AS (SELECT id FROM time_bills WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id LIMIT 1000 FOR NO KEY UPDATE),
changed AS (UPDATE time_bills SET stale = true FROM batch WHERE batch.id = time_bills.id)
SELECT id::text FROM batch ORDER BY id DESC LIMIT 1;
"""
ACCEPTED = [
    "ALTER TABLE tasks ADD COLUMN link text, ADD COLUMN n integer NOT NULL DEFAULT 0, ADD COLUMN at timestamptz DEFAULT now();",
    "CREATE TABLE new (id uuid PRIMARY KEY, by uuid REFERENCES users); CREATE INDEX n ON new (by); UPDATE new SET id = id;",
    "ALTER TABLE tasks ADD CONSTRAINT positive CHECK (n > 0) NOT VALID;",
    "ALTER TABLE tasks VALIDATE CONSTRAINT positive;",
    "ALTER TABLE tasks ADD CONSTRAINT one UNIQUE USING INDEX tasks_one;",
    "UPDATE xero_tenants SET users_pages = 0; CREATE INDEX h ON heartbeats (kind);",
    "CREATE TRIGGER t AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION f(); DROP INDEX tasks_one;",
    f"{OUTSIDE}CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON tasks (n);\nDROP INDEX CONCURRENTLY IF EXISTS j;\n",
    f"{OUTSIDE}ALTER TABLE tasks VALIDATE CONSTRAINT positive;\n",
    f"{OUTSIDE}CREATE STATISTICS IF NOT EXISTS s ON (lower(title)) FROM tasks;\nANALYZE tasks;\n",
    BATCHES + BATCH,
]
REFUSED = {
    "CREATE INDEX i ON tasks (n);": "Nobody can write to tasks",
    "CREATE INDEX CONCURRENTLY i ON tasks (n);": "needs a file outside",
    "UPDATE tasks SET n = 0;": "write it in batches",
    "DELETE FROM messages;": "write it in batches",
    "INSERT INTO stops SELECT * FROM time_entries;": "write it in batches",
    "ALTER TABLE tasks ADD COLUMN n integer NOT NULL;": "inserts into tasks without n",
    "ALTER TABLE tasks ADD COLUMN n uuid DEFAULT gen_random_uuid();": "may rewrite the table",
    "ALTER TABLE tasks ADD COLUMN at timestamptz DEFAULT clock_timestamp();": "may rewrite the table",
    "ALTER TABLE tasks ADD COLUMN n integer CHECK (n > 0);": "reads the table under a lock",
    "ALTER TABLE tasks ADD COLUMN n uuid REFERENCES users;": "reads the table under a lock",
    "ALTER TABLE tasks ADD COLUMN n integer GENERATED ALWAYS AS (1) STORED;": "reads the table under a lock",
    "ALTER TABLE tasks ALTER COLUMN n TYPE bigint;": "AT_AlterColumnType",
    "ALTER TABLE tasks ALTER COLUMN n SET NOT NULL;": "AT_SetNotNull",
    "ALTER TABLE tasks ADD CONSTRAINT positive CHECK (n > 0);": "NOT VALID",
    "ALTER TABLE tasks ADD CONSTRAINT u FOREIGN KEY (n) REFERENCES users;": "NOT VALID",
    "ALTER TABLE tasks ADD CONSTRAINT one UNIQUE (n);": "USING INDEX",
    "ALTER TABLE tasks ADD CONSTRAINT p CHECK (n > 0) NOT VALID; ALTER TABLE tasks VALIDATE CONSTRAINT p;": "a file of its own",
    "ALTER TABLE tasks ADD a int; ALTER TABLE users ADD a int; ALTER TABLE time_bills ADD a int;": "at most 2 tables",
    "ALTER TABLE tasks RENAME COLUMN n TO m;": "Rename is not known to be harmless",
    "LOCK TABLE tasks;": "Lock is not known",
    "TRUNCATE tasks;": "Truncate is not known",
    "VACUUM FULL tasks;": "Vacuum is not known",
    "DO $$ BEGIN UPDATE tasks SET n = 0; END $$;": "Do is not known",
    f"{OUTSIDE}CREATE INDEX CONCURRENTLY i ON tasks (n);\n": "can run again",
    f"{OUTSIDE}DROP INDEX CONCURRENTLY i;\n": "can run again",
    f"{OUTSIDE}CREATE STATISTICS s ON (lower(title)) FROM tasks;\n": "can run again",
    f"{OUTSIDE}VACUUM tasks;\n": "can run again",
    f"{OUTSIDE}ALTER TABLE tasks ADD n integer;\n": "can run again",
    f"{OUTSIDE}DROP INDEX CONCURRENTLY IF EXISTS i; DROP INDEX CONCURRENTLY IF EXISTS j;\n": "ends with its line",
    f"{BATCHES}UPDATE tasks SET n = 0;\n": "is one SELECT",
    BATCHES + BATCH.replace("%(after)s", "NULL"): "begins after the last key",
    BATCHES + BATCH.replace(" LIMIT 1000", "").replace(" LIMIT 1;", ";"): "has a LIMIT",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_locks_nobody_out(path: Path) -> None:
    text = path.read_text()
    if path.stem >= RULES_SINCE or text.startswith((OUTSIDE, BATCHES)):
        assert refusals(text) == []


def test_the_guide_shows_what_is_accepted() -> None:
    _, _, section = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("\n## A migration\n")
    shown = [dedent(block.partition("```")[0]) for block in section.partition("\n## ")[0].split("```sql\n")[1:]]
    assert [refusals(text) for text in shown] == [[], []]
    assert shown[1].startswith(BATCHES)


def test_what_is_short_is_accepted() -> None:
    assert {text: refusals(text) for text in ACCEPTED} == {text: [] for text in ACCEPTED}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_what_locks_others_out_is_refused(text: str, reason: str) -> None:
    assert any(reason in refusal for refusal in refusals(text)), refusals(text)


def test_requests_wait_less_than_a_second_behind_a_migration_that_waits_for_its_locks() -> None:
    assert LOCK_SECONDS * MOST_LOCKED < 1
