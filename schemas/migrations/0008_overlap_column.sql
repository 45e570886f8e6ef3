-- The flag `overlap` of a time entry has a column of its own. The version before shows the column `flags` to customers' users as it
-- is, and they must not learn that the consultant recorded the same hour elsewhere. 0009 fills the column, 0010 keeps it true.
--
-- This locks the table for a moment, so the file has nothing that takes longer.
ALTER TABLE time_entries ADD COLUMN overlap boolean NOT NULL DEFAULT false;   -- it shares time with another entry of its user

-- Unreleased versions after 0.2.0 had `overlap` in `flags`.
DROP FUNCTION IF EXISTS set_entry_flags() CASCADE;
DROP FUNCTION IF EXISTS set_overlaps_of_others() CASCADE;
DROP FUNCTION IF EXISTS keep_updated_at() CASCADE;
DROP FUNCTION IF EXISTS overlapping_entries(uuid, timestamptz, timestamptz);
DROP INDEX IF EXISTS time_entries_overlapping;
DROP INDEX IF EXISTS time_entries_overlapping_of_bill;

-- =====================================================================================================================
-- hours: the flags of time entries
-- =====================================================================================================================

-- The entries of a user that share some time with these times: the rule of the flag `overlap`, and of the refusal of overlaps.
-- Nearly all entries last less than a day, so those start at most a day before; the few longer ones have their own index.
CREATE FUNCTION overlapping_entries(whose uuid, starts timestamptz, ends timestamptz) RETURNS TABLE (id uuid, overlap boolean)
LANGUAGE sql STABLE AS $$
    SELECT e.id, e.overlap FROM time_entries e
    WHERE e.user_id = whose AND e.deleted_at IS NULL AND e.start_time < ends AND e.end_time > starts
        AND e.start_time > starts - interval '24 hours'
    UNION ALL
    SELECT e.id, e.overlap FROM time_entries e
    WHERE e.user_id = whose AND e.deleted_at IS NULL AND e.start_time < ends AND e.end_time > starts
        AND e.duration > 86400 AND e.start_time <= starts - interval '24 hours'
$$;

-- A change of another entry's flag is no change of that entry: it keeps its version and its updated_at, which is before the
-- approval of its bill. It gets a new changed_xid, so that sync sends it.
CREATE FUNCTION keep_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := OLD.updated_at;
    RETURN NEW;
END $$;

-- after the trigger `touch`: triggers run in the order of their names
CREATE TRIGGER touch_only_flags BEFORE UPDATE OF overlap ON time_entries
    FOR EACH ROW EXECUTE FUNCTION keep_updated_at();
