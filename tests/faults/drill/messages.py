"""Breakages of messages, and of what encrypts secrets."""

import json
import time

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.outbox import probe
from tests.support.given import Json

DEAD, KINDS = 20_000, 6
GROUPS_SECONDS = 1.0  # at most, for the groups of all dead letters
NEW_KEY = "another secret of 32 bytes or more"
DEAD_LETTERS = f"""
    WITH groups AS (
        INSERT INTO failure_groups (fingerprint, actor, error_class, frame, message)
        SELECT 'drill' || n, 'send_mail', 'ValueError', '', 'kind ' || n FROM generate_series(1, {KINDS}) n
    )
    INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, died_at, error, fingerprint)
    SELECT gen_random_uuid(), 'send_mail', 'mail', '{{"to": "jo@example.com", "subject": "Hello", "paragraphs": ["One"]}}',
           'dead', 5, 5, now(), 'ValueError: kind ' || 1 + n % {KINDS}, 'drill' || 1 + n % {KINDS}
    FROM generate_series(1, {DEAD}) n
"""


def _enqueue_poison(site: Site) -> None:
    """A body that no version of the handler can read."""
    with site.stint.sql() as conn:
        conn.execute(
            """
            INSERT INTO messages (id, actor, queue, body, max_attempts)
            VALUES (gen_random_uuid(), 'recompute_bills', 'bills', '{"bill_ids": "poison"}', 5)
            """
        )


def _enqueue_another_shape(site: Site) -> None:
    """An actor that this version of the workers does not have."""
    with site.stint.sql() as conn:
        probe.enqueue(conn, probe.Probe(key="of another version"))


def _start_the_other_version(site: Site, _: Json) -> None:
    with site.stint.sql() as conn:
        if conn.execute("SELECT to_regclass('probe')").fetchone() == (None,):
            conn.execute(probe.TABLES.encode())
    site.restart("work:bills", STINT_TEST_MODULE="tests.outbox.probe")
    del site.stint.environment["STINT_TEST_MODULE"]
    site.command("./stint dead replay --queue bills --reason 'upgraded' --watch")


def _fill_dead_letters(site: Site) -> None:
    with site.stint.sql() as conn:
        conn.execute(DEAD_LETTERS.encode())
    started_at = time.perf_counter()
    groups = site.firm.admin.get("/api/dead-letters/groups")
    seconds = time.perf_counter() - started_at
    assert len(groups["items"]) == KINDS and seconds < GROUPS_SECONDS, f"{len(groups['items'])} groups in {seconds:.1f} s"


def _discard_all(site: Site, _: Json) -> None:
    for group in json.loads(site.command("./stint dead --json"))["items"]:
        site.command(f"./stint dead discard --group {group['fingerprint']} --reason 'a drill'")


def _end_the_rotation(site: Site, _: Json) -> None:
    old = site.old_key
    site.restart_all(SECRET_KEY=f"{NEW_KEY},{old}")
    site.command("./stint rotate-keys")


def _begin_a_rotation_wrongly(site: Site) -> None:
    site.old_key = site.stint.environment["SECRET_KEY"]
    site.restart_all(SECRET_KEY=NEW_KEY)


BREAKAGES = [
    Breakage(
        "a message with a wrong body",
        "Dead letters: 1, in 1 group.",
        "Dead letters",
        "./stint dead discard",
        _enqueue_poison,
        _discard_all,
        section="Working with dead letters",
    ),
    Breakage(
        "a message of another version",
        "Dead letters: 1, in 1 group.",
        "Dead letters",
        "./stint dead replay --queue QUEUE --reason 'upgraded'",
        _enqueue_another_shape,
        _start_the_other_version,
        section="Upgrades",
    ),
    Breakage(
        "20,000 dead letters of six kinds",
        "Dead letters: 20,000, in 6 groups.",
        "Dead letters",
        "./stint dead discard",
        _fill_dead_letters,
        _discard_all,
        section="Working with dead letters",
    ),
    Breakage(
        "SECRET_KEY is replaced before its rotation",
        "SECRET_KEY does not decrypt the signing key and Xero's tokens",
        "SECRET_KEY does not decrypt",
        "set SECRET_KEY=new,old with the old key and restart",
        _begin_a_rotation_wrongly,
        _end_the_rotation,
    ),
]
