-- The flags of the time entries that exist. This locks only the rows whose flags change, and waits for none: 0010 corrects those that
-- are locked by others, or change meanwhile.

-- The time entries whose flags are not right, with the right ones. An entry that overlaps another one begins before one of those before
-- it has ended, or ends after the next one has begun. `./stint migrate` sets stint.long_seconds (STINT_LONG_HOURS).
SET LOCAL work_mem = '128MB';
CREATE VIEW wrong_entry_flags AS
    WITH judged AS MATERIALIZED (
        SELECT id, flags, overlap,
            (next_start < end_time OR end_before > start_time OR overlap) AND EXISTS (
                SELECT FROM overlapping_entries(e.user_id, e.start_time, e.end_time) other WHERE other.id <> e.id) AS is_overlapping,
            extract(epoch FROM end_time - start_time)
                > coalesce(nullif(current_setting('stint.long_seconds', true), '')::numeric, 43200) AS is_long
        FROM (
            SELECT id, user_id, start_time, end_time, flags, overlap, lead(start_time) OVER later AS next_start,
                   max(end_time) OVER (later ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS end_before
            FROM time_entries WHERE deleted_at IS NULL
            WINDOW later AS (PARTITION BY user_id ORDER BY start_time, id)
        ) e
    )
    SELECT id, coalesce(is_overlapping, false) AS overlap, CASE WHEN is_long THEN '{long}'::text[] ELSE '{}' END AS flags
    FROM judged
    WHERE overlap <> coalesce(is_overlapping, false) OR flags <> CASE WHEN is_long THEN '{long}'::text[] ELSE '{}' END;

CREATE TEMPORARY TABLE wrong ON COMMIT DROP AS SELECT * FROM wrong_entry_flags;
ANALYZE wrong;
WITH locked AS MATERIALIZED (
    SELECT e.id FROM time_entries e JOIN wrong ON wrong.id = e.id ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED)
UPDATE time_entries e SET overlap = wrong.overlap, flags = wrong.flags
FROM locked JOIN wrong USING (id) WHERE e.id = locked.id;
