-- Outside of a transaction.
-- The status of each entry is read again and again: an invoice may be voided, and a lock may last for seconds. (Before, an entry
-- that was seen invoiced was not read again, and its invoice_checked_at was null; processes of that version still write null.)

-- the lists of entries that overlap, and of the bills that have some (0010)
CREATE INDEX CONCURRENTLY IF NOT EXISTS time_entries_overlapping ON time_entries (start_time, id)
WHERE overlap AND deleted_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS time_entries_overlapping_of_bill ON time_entries (bill_id)
WHERE overlap AND deleted_at IS NULL;

-- to find the project that was not checked for the longest time, and the bills of the entries on a page
CREATE INDEX CONCURRENTLY IF NOT EXISTS xero_entries_of_project ON xero_entries (tenant_id, project_id, invoice_checked_at)
WHERE entry_ids <> '{}';
DROP INDEX CONCURRENTLY IF EXISTS xero_entries_unchecked;
