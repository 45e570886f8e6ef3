-- An attempt to connect Xero that continues after its request was answered.

-- =====================================================================================================================
-- xero: connecting
-- =====================================================================================================================

-- Not in 0018, which locks the customers: this reads all bills.
UPDATE xero_entries e SET create_refused = true FROM time_bills b
WHERE b.id = e.bill_id AND b.xero_status = 'failed' AND e.entry_ids = '{}' AND e.create_attempted_at IS NULL
  AND e.content IS NOT NULL;

ALTER TABLE xero_connection
    ADD connect_attempt_id uuid,        -- the attempt that runs; a later one replaces it
    ADD connecting_until timestamptz,   -- when it has certainly ended
    ADD connect_error text;             -- why the last one failed
