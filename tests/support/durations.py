"""How long modules of tests take."""

IN_BROWSER = "tests/console/browser"

# The modules that take longest, in seconds of `./stint test --all` with six workers, with nothing in ~/.cache/stint. Only
# their order matters.
SECONDS = {
    "tests/deploy/test_schemas.py": 290,
    "tests/cluster/test_cluster.py": 280,
    IN_BROWSER: 220,
    "tests/mutants/test_mutants.py": 165,
    "tests/faults/test_drill.py": 155,
    "tests/xero/test_sync.py": 154,
    "tests/faults/test_network.py": 149,
    "tests/xero/test_changed_by_hand.py": 144,
    "tests/faults/test_servers_down.py": 143,
    "tests/xero/test_limits.py": 123,
    "tests/xero/test_access.py": 114,
    "tests/outbox/test_outbox.py": 103,
    "tests/console/test_every_form.py": 99,
    "tests/sync/test_restores.py": 95,
    "tests/ops/test_bench.py": 90,
    "tests/support/test_servers.py": 84,
    "tests/xero/test_connection.py": 81,
    "tests/ops/test_up.py": 80,
    "tests/faults/test_everything.py": 78,
    "tests/outbox/test_replays.py": 75,
    "tests/faults/test_kills.py": 69,
    "tests/api/test_fuzzed.py": 67,
    "tests/test_docs.py": 66,
    "tests/faults/test_slack_load.py": 65,
    "tests/faults/test_upgrade.py": 65,
    "tests/hours/test_billing_model.py": 65,
    "tests/slack/test_posts.py": 63,
    "tests/hours/test_overlaps.py": 62,
    "tests/xero/test_sending_failed.py": 62,
    "tests/outbox/test_bad_messages.py": 60,
    "tests/xero/test_dead_in_the_relay.py": 60,
    "tests/faults/test_slack.py": 54,
    "tests/identity/test_email_keys.py": 53,
    "tests/ops/test_stint.py": 52,
    "tests/faults/test_service_levels.py": 52,
    "tests/sync/test_crash_histories.py": 51,
    "tests/faults/test_recompute.py": 50,
    "tests/identity/test_old_tokens.py": 50,
    "tests/ops/test_servers.py": 49,
    "tests/xero/test_users.py": 49,
    "tests/test_cost_of_input.py": 48,
    "tests/hours/test_list_plans.py": 48,
    "tests/xero/test_mapping.py": 47,
    "tests/faults/test_graceful_stop.py": 47,
    "tests/faults/test_api_kills.py": 47,
    "tests/api/test_roles.py": 45,
    "tests/api/test_rejected_bills.py": 43,
    "tests/api/test_cancellation.py": 43,
    "tests/ops/test_sandbox_xero.py": 40,
    "tests/ops/test_backup.py": 40,
    "tests/faults/test_restore.py": 40,
    "tests/ops/test_moments.py": 39,
    "tests/support/test_selection.py": 38,
    "tests/mail/test_mail.py": 37,
    "tests/faults/test_mail.py": 36,
    "tests/api/test_readiness.py": 36,
    "tests/xero/test_what_is_shown.py": 35,
    "tests/outbox/test_failure_groups.py": 35,
    "tests/xero/test_storm.py": 34,
    "tests/api/test_days.py": 33,
    "tests/ops/test_up_sandbox.py": 32,
    "tests/identity/cognito/test_invitations.py": 32,
    "tests/faults/test_events.py": 32,
    "tests/api/test_moving.py": 29,
    "tests/api/test_future_hours.py": 29,
    "tests/api/test_busy.py": 28,
    "tests/test_migrations.py": 28,
    "tests/test_secrets.py": 28,
    "tests/ops/test_status.py": 27,
    "tests/identity/test_lost_access.py": 27,
    "tests/api/test_cost.py": 25,
    "tests/api/test_recompute.py": 25,
    "tests/api/test_leads.py": 25,
    "tests/faults/test_deliveries.py": 25,
    "tests/api/test_customer_users.py": 24,
    "tests/sync/test_sync.py": 24,
    "tests/api/test_wording.py": 24,
    "tests/faults/test_sync_load.py": 24,
    "tests/ops/test_imports_of_commands.py": 23,
    "tests/ops/test_bench_peer.py": 23,
    "tests/ops/test_up_settings.py": 22,
    "tests/postgres/test_read_only.py": 22,
}


def scope_of(nodeid: str) -> str:
    """The tests that one worker of pytest runs together: the test's module; of those in a browser the whole folder, which
    shares a browser."""
    module = nodeid.partition("::")[0]
    return IN_BROWSER if module.startswith(f"{IN_BROWSER}/") else module


def seconds_of(nodeid: str) -> int:
    """How long the test's module takes, if it takes long."""
    return SECONDS.get(scope_of(nodeid), 0)
