-- Outside of a transaction.
-- The index for the flag `overlap` of time entries, whose column and triggers come in 0008 to 0010.
--
-- Longer than a day: these few may overlap days long after their start, so `overlapping_entries` looks for them separately.
CREATE INDEX CONCURRENTLY IF NOT EXISTS time_entries_over_a_day ON time_entries (user_id, start_time)
WHERE duration > 86400 AND deleted_at IS NULL;
