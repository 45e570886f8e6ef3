-- The flags of a time entry, `long` (in `flags`) and `overlap`, are set by triggers, so that they are right whatever writes the row.
--
-- The long part, which finds the entries that 0009 left, runs first and locks nothing. Then entries cannot be written while those
-- are corrected that were written meanwhile. They can be read, and timers can be started and stopped.
SET LOCAL work_mem = '128MB';
CREATE TEMPORARY TABLE found_before ON COMMIT DROP AS SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid;
CREATE TEMPORARY TABLE wrong_before ON COMMIT DROP AS SELECT id FROM wrong_entry_flags;
DROP VIEW wrong_entry_flags;

LOCK TABLE time_entries IN SHARE ROW EXCLUSIVE MODE;

-- =====================================================================================================================
-- hours: the flags of time entries
-- =====================================================================================================================

-- The flags of the row itself. Every connection of Stint sets stint.long_seconds (STINT_LONG_HOURS); without it, as for a process
-- of the version before, `long` stays as it was written.
CREATE FUNCTION set_entry_flags() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    long_seconds numeric := nullif(current_setting('stint.long_seconds', true), '')::numeric;
    is_long boolean := coalesce(extract(epoch FROM NEW.end_time - NEW.start_time) > long_seconds, 'long' = ANY (NEW.flags));
BEGIN
    NEW.flags := CASE WHEN is_long THEN '{long}'::text[] ELSE '{}' END;
    NEW.overlap := false;
    IF NEW.deleted_at IS NULL THEN
        -- Two transactions that write overlapping entries at once would not see each other. Stint has locked this row before;
        -- this lock is for a writer that has not.
        PERFORM FROM users u WHERE u.id = NEW.user_id FOR NO KEY UPDATE;
        NEW.overlap := EXISTS (
            SELECT FROM overlapping_entries(NEW.user_id, NEW.start_time, NEW.end_time) other WHERE other.id <> NEW.id);
    END IF;
    RETURN NEW;
END $$;

-- The flag `overlap` of the entries that the row overlaps, or has overlapped. It runs after the whole statement, so it also corrects
-- the rows of one statement that were written before each other. Only entries whose flag may change are looked at, so that a day of
-- many overlapping entries stays cheap to write.
CREATE FUNCTION set_overlaps_of_others() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    near uuid[] := NEW.id || array(  -- have no flag yet
        SELECT id FROM overlapping_entries(NEW.user_id, NEW.start_time, NEW.end_time) WHERE NOT overlap);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        near := near || array(  -- may have it no longer
            SELECT id FROM overlapping_entries(OLD.user_id, OLD.start_time, OLD.end_time) WHERE overlap);
    END IF;
    UPDATE time_entries e SET overlap = NOT e.overlap
    WHERE e.id = ANY (near) AND e.deleted_at IS NULL AND e.overlap <> EXISTS (
        SELECT FROM overlapping_entries(e.user_id, e.start_time, e.end_time) other WHERE other.id <> e.id);
    RETURN NULL;
END $$;

CREATE TRIGGER set_flags BEFORE INSERT OR UPDATE OF user_id, start_time, end_time, deleted_at ON time_entries
    FOR EACH ROW EXECUTE FUNCTION set_entry_flags();
CREATE TRIGGER set_overlaps_after_insert AFTER INSERT ON time_entries
    FOR EACH ROW WHEN (NEW.overlap) EXECUTE FUNCTION set_overlaps_of_others();
CREATE TRIGGER set_overlaps_after_update AFTER UPDATE OF user_id, start_time, end_time, deleted_at ON time_entries
    FOR EACH ROW WHEN (NEW.overlap OR OLD.overlap) EXECUTE FUNCTION set_overlaps_of_others();

-- What was found, and what was written between that and the lock.
CREATE TEMPORARY TABLE to_check ON COMMIT DROP AS
    WITH written AS MATERIALIZED (
        SELECT e.* FROM users u CROSS JOIN LATERAL (   -- for the index
            SELECT id, user_id, start_time, end_time FROM time_entries
            WHERE user_id = u.id AND changed_xid >= (SELECT xid FROM found_before) OFFSET 0) e)
    SELECT id FROM wrong_before
    UNION SELECT id FROM written
    UNION SELECT o.id FROM written w, overlapping_entries(w.user_id, w.start_time, w.end_time) o
    -- those that one of them overlapped before it was moved
    UNION SELECT e.id FROM time_entries e WHERE e.overlap AND e.user_id IN (SELECT user_id FROM written);
ANALYZE to_check;
UPDATE time_entries e SET overlap = now_right.overlap, flags = now_right.flags
FROM (
    SELECT c.id, EXISTS (
            SELECT FROM overlapping_entries(c.user_id, c.start_time, c.end_time) other WHERE other.id <> c.id) AS overlap,
        CASE WHEN extract(epoch FROM c.end_time - c.start_time)
                > coalesce(nullif(current_setting('stint.long_seconds', true), '')::numeric, 43200)
            THEN '{long}'::text[] ELSE '{}' END AS flags
    FROM time_entries c JOIN to_check USING (id)
    WHERE c.deleted_at IS NULL
    OFFSET 0   -- computed once for each
) now_right
WHERE e.id = now_right.id AND (e.overlap, e.flags) <> (now_right.overlap, now_right.flags);
