-- Reminders in Slack of missing hours, and the summary of the week before.

-- =====================================================================================================================
-- slack: which people have their reminder of which day
-- =====================================================================================================================

-- Promise 2: a person gets at most one of these messages a day.
CREATE TABLE slack_reminder_days (
    user_id uuid REFERENCES users ON DELETE CASCADE,
    day date,   -- in the person's time zone
    PRIMARY KEY (user_id, day)
);
COMMENT ON TABLE slack_reminder_days IS 'A day whose message to a person about their hours is in the outbox. Deleted after 30 days.';
CREATE INDEX slack_reminder_days_day ON slack_reminder_days (day);   -- to read the last days, and to prune
