-- A bot token that Slack has revoked is a loss of access like any other: messages wait, and the admins are told (slack_access_losses).
-- The previous version, which may run beside this one, still reads the table.
COMMENT ON TABLE slack_revocations IS
    'Not used any more, and empty in new installations: a revoked bot token is in slack_access_losses.';
