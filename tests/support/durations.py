"""How long modules of tests take, and in which order they begin."""

from collections.abc import Mapping
from itertools import accumulate

IN_BROWSER = "tests/console/browser"

# The modules that take longest, in seconds of `./stint test --all` with six workers, with nothing in ~/.cache/stint: those that
# compute most of that time, and those that mostly wait. Only their order matters.
COMPUTING = {
    "tests/cluster/test_cluster.py": 280,
    IN_BROWSER: 220,
    "tests/sync/test_restores.py": 200,
    "tests/faults/test_everything.py": 140,
    "tests/ops/test_bench.py": 138,
    "tests/ops/test_up.py": 115,
    "tests/mutants/test_mutants.py": 110,
    "tests/api/test_fuzzed.py": 110,
    "tests/console/test_every_form.py": 99,
    "tests/support/test_servers.py": 84,
    "tests/deploy/test_schemas.py": 80,
    "tests/test_docs.py": 66,
    "tests/faults/test_slack_load.py": 65,
    "tests/faults/test_upgrade.py": 65,
    "tests/hours/test_billing_model.py": 65,
    "tests/hours/test_overlaps.py": 62,
    "tests/faults/test_slack.py": 54,
    "tests/identity/test_email_keys.py": 53,
    "tests/sync/test_crash_histories.py": 51,
    "tests/faults/test_recompute.py": 50,
    "tests/ops/test_servers.py": 49,
    "tests/test_cost_of_input.py": 48,
    "tests/hours/test_list_plans.py": 48,
    "tests/api/test_roles.py": 45,
    "tests/ops/test_backup.py": 40,
    "tests/ops/test_demo.py": 40,
    "tests/ops/test_moments.py": 39,
    "tests/support/test_selection.py": 38,
    "tests/outbox/test_failure_groups.py": 35,
    "tests/ops/test_up_sandbox.py": 32,
    "tests/test_migrations.py": 28,
    "tests/api/test_cost.py": 25,
    "tests/api/test_wording.py": 24,
    "tests/faults/test_sync_load.py": 24,
    "tests/ops/test_imports_of_commands.py": 23,
    "tests/ops/test_up_settings.py": 22,
    "tests/ops/test_api_processes.py": 22,
    "tests/reports/test_report_plans.py": 22,
}
WAITING = {
    "tests/faults/test_drill.py": 155,
    "tests/xero/test_sync.py": 154,
    "tests/faults/test_network.py": 149,
    "tests/xero/test_changed_by_hand.py": 144,
    "tests/faults/test_servers_down.py": 143,
    "tests/xero/test_limits.py": 123,
    "tests/xero/test_access.py": 114,
    "tests/outbox/test_outbox.py": 103,
    "tests/xero/test_connection.py": 81,
    "tests/outbox/test_replays.py": 75,
    "tests/faults/test_kills.py": 69,
    "tests/xero/test_storm.py": 65,
    "tests/slack/test_posts.py": 63,
    "tests/xero/test_sending_failed.py": 62,
    "tests/outbox/test_bad_messages.py": 60,
    "tests/cluster/test_management.py": 60,
    "tests/xero/test_dead_in_the_relay.py": 60,
    "tests/ops/test_stint.py": 52,
    "tests/identity/test_old_tokens.py": 50,
    "tests/xero/test_users.py": 49,
    "tests/xero/test_mapping.py": 47,
    "tests/faults/test_graceful_stop.py": 47,
    "tests/faults/test_api_kills.py": 47,
    "tests/api/test_rejected_bills.py": 43,
    "tests/api/test_cancellation.py": 43,
    "tests/ops/test_sandbox_xero.py": 40,
    "tests/faults/test_restore.py": 40,
    "tests/faults/test_replay_beside_stops.py": 38,
    "tests/mail/test_mail.py": 37,
    "tests/faults/test_mail.py": 36,
    "tests/api/test_readiness.py": 36,
    "tests/xero/test_what_is_shown.py": 35,
    "tests/api/test_days.py": 33,
    "tests/identity/cognito/test_invitations.py": 32,
    "tests/faults/test_events.py": 32,
    "tests/ops/test_alert_rules.py": 30,
    "tests/ops/test_pgbackrest.py": 30,
    "tests/api/test_moving.py": 29,
    "tests/api/test_future_hours.py": 29,
    "tests/api/test_busy.py": 28,
    "tests/test_secrets.py": 28,
    "tests/ops/test_status.py": 27,
    "tests/identity/test_lost_access.py": 27,
    "tests/api/test_recompute.py": 25,
    "tests/api/test_leads.py": 25,
    "tests/faults/test_deliveries.py": 25,
    "tests/api/test_customer_users.py": 24,
    "tests/sync/test_sync.py": 24,
    "tests/ops/test_bench_peer.py": 23,
    "tests/postgres/test_read_only.py": 22,
    "tests/xero/test_specification.py": 22,
}


def _beginnings(seconds: Mapping[str, int]) -> dict[str, float]:
    """When each of these modules should begin, if one follows the other: as a part of the time that all of them take."""
    total, before = sum(seconds.values()), accumulate(seconds.values(), initial=0)
    return {module: start / total for module, start in zip(seconds, before, strict=False)}


# Modules of both kinds begin in turn, so that the processors have work all the time.
_BEGINNINGS = _beginnings(COMPUTING) | _beginnings(WAITING)


def scope_of(nodeid: str) -> str:
    """The tests that one worker of pytest runs together: the test's module; of those in a browser the whole folder, which
    shares a browser."""
    module = nodeid.partition("::")[0]
    return IN_BROWSER if module.startswith(f"{IN_BROWSER}/") else module


def beginning_of(nodeid: str) -> float:
    """When the test's module should begin: 0 for the first ones, and 1 for those that take less than half a minute."""
    return _BEGINNINGS.get(scope_of(nodeid), 1)
