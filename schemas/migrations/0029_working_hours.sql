-- When each person works: for reminders in Slack, and for how many hours are planned.

-- =====================================================================================================================
-- identity: each person's working hours
-- =====================================================================================================================

-- Null in a column: the firm's value, of the setting that is named.
CREATE TABLE working_hours (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    days smallint[] CHECK (days <@ '{1,2,3,4,5,6,7}' AND cardinality(days) > 0),   -- 1 is Monday; STINT_WORKING_DAYS
    start_time time,                    -- STINT_WORKING_HOURS, in the person's time zone
    end_time time,                      -- STINT_WORKING_HOURS
    seconds_a_day integer CHECK (seconds_a_day > 0 AND seconds_a_day <= 86400),    -- planned; STINT_HOURS_A_DAY
    reminders boolean,                  -- STINT_REMINDERS
    days_off datemultirange NOT NULL DEFAULT '{}'   -- days on which the person does not work, such as holidays
);
COMMENT ON TABLE working_hours IS 'When one of the firm''s own people works. No row: as the settings say.';
