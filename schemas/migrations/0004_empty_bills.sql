-- A time bill that no entry is on any more is deleted. Those that the previous version left behind become tombstones here; a
-- process of that version that still runs may leave more of them, which `./stint recompute` removes.

-- The bills are locked in the order of their ids, and looked at again in the next statement: an entry may have come while this
-- one waited for a lock.
CREATE TEMPORARY TABLE empty_bills ON COMMIT DROP AS
    WITH locked AS (
        SELECT b.id FROM time_bills b
        WHERE b.status <> 'approved' AND b.deleted_at IS NULL
            AND NOT EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL)
        ORDER BY b.id FOR NO KEY UPDATE)
    SELECT id FROM locked;
UPDATE time_bills b SET deleted_at = now(), seconds = 0, stale = false, version = version + 1
FROM empty_bills WHERE b.id = empty_bills.id AND b.status <> 'approved' AND b.deleted_at IS NULL
    AND NOT EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL);

-- Last: it locks the table, and a chunk of a recompute that holds a bill may wait for that.
ALTER TABLE recompute_changes ADD COLUMN removed boolean NOT NULL DEFAULT false;   -- no entry was on the bill any more
