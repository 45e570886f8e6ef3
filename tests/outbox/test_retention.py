"""docs/operations.md says of each table how long its rows are kept."""

import re
from collections import Counter

from actors.runtime.rescuer import PRUNE_RULES
from tests.support.installation import CHECKOUT

PAGE = (CHECKOUT / "docs/operations.md").read_text().partition("## What grows")[2].partition("\n## ")[0]
ROWS = [row.split(" | ") for row in re.findall(r"^\| (`.*) \|$", PAGE, re.MULTILINE)]
TABLES = re.findall(r"^- \*\*(\w+)\*\*:", (CHECKOUT / "docs/schema.md").read_text(), re.MULTILINE)


def named(text: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", text)


def test_each_table_is_on_the_page_once() -> None:
    assert Counter(table for tables, _ in ROWS for table in named(tables)) == Counter(TABLES)


def test_what_is_pruned_has_a_time_there_and_nothing_else_is_said_to_end_by_time() -> None:
    timed = {table for tables, kept in ROWS for table in named(tables) if "STINT_PRUNE_DAYS" in kept or "day" in kept[:9]}
    expiring = {table for tables, kept in ROWS for table in named(tables) if kept.startswith("until they expire")}
    with_a_parent = {"message_attempts", "message_events", "slack_posts", "recompute_changes", "replay_messages"}
    elsewhere = {"replays", "heartbeats"}  # schemas/outbox/dead_letters/replays.py, schemas/outbox/heartbeats.py
    assert timed | expiring == {rule.table for rule in PRUNE_RULES} | with_a_parent | elsewhere
