-- An attempt to connect Xero that continues after its request was answered.

-- =====================================================================================================================
-- xero: connecting
-- =====================================================================================================================

ALTER TABLE xero_connection
    ADD connect_attempt_id uuid,        -- the attempt that runs; a later one replaces it
    ADD connecting_until timestamptz,   -- when it has certainly ended
    ADD connect_error text;             -- why the last one failed
