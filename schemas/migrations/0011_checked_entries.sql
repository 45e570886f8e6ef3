-- The status of each entry is read again and again: an invoice may be voided, and a lock may last for seconds. (Before, an entry
-- that was seen invoiced was not read again, and its invoice_checked_at was null; processes of that version still write null.)

-- to find the project that was not checked for the longest time, and the bills of the entries on a page
CREATE INDEX xero_entries_of_project ON xero_entries (tenant_id, project_id, invoice_checked_at) WHERE entry_ids <> '{}';
DROP INDEX xero_entries_unchecked;
