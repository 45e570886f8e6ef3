-- Nudges: reminders in Slack of timers that have run for hours.

-- =====================================================================================================================
-- slack: nudges
-- =====================================================================================================================

-- Promise 2: each nudge is enqueued once. The row is written in the transaction that enqueues it, and is overwritten for the
-- person's next timer, so it needs no pruning. It is a table of its own so that a nudge does not change the timer's version.
CREATE TABLE slack_nudges (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    timer_id uuid NOT NULL,            -- the row counts only while this timer runs
    next_at timestamptz                -- null: no other nudge, unless the person lets the timer run on
);
COMMENT ON TABLE slack_nudges IS 'A person''s timer whose nudge is in the outbox, and when the next one is due. One row for each person, of their last such timer.';
CREATE INDEX timers_started ON timers (start_time);   -- the timers that have run for hours
