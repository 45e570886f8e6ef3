-- Approving in Slack: the message of the day to admins, and who rejected a bill to its owner.

-- =====================================================================================================================
-- hours: which rejection of a bill is the latest
-- =====================================================================================================================

ALTER TABLE time_bills ADD rejected_version integer;   -- the bill's version after it was last rejected; null: never

-- =====================================================================================================================
-- slack: days whose messages are planned
-- =====================================================================================================================

CREATE TABLE slack_approval_days (
    day date PRIMARY KEY   -- in the firm's time zone
);
COMMENT ON TABLE slack_approval_days IS 'A day whose messages to admins about bills to approve are in the outbox. Deleted after 30 days.';
