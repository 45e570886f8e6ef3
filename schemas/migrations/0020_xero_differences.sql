-- Time entries of bills that somebody has changed in Xero by hand: a bill has the status `differs` until an admin sends it again or
-- accepts what is there.

-- =====================================================================================================================
-- hours: what a bill shows of a change in Xero
-- =====================================================================================================================

ALTER TABLE time_bills
    ADD xero_difference jsonb,   -- what its entry has in Xero since somebody changed it there (InXero); null: as Stint wrote it
    ADD xero_accepted jsonb,     -- the admin who has accepted that (XeroAcceptance)
    DROP CONSTRAINT time_bills_xero_status_check,
    -- 0021 validates it: writes do not wait for that
    ADD CONSTRAINT time_bills_xero_status_check CHECK (
        xero_status IN ('none', 'queued', 'synced', 'failed', 'not_connected', 'not_mapped', 'withdrawing', 'differs')) NOT VALID;

-- =====================================================================================================================
-- xero: what is known of changes by hand
-- =====================================================================================================================

-- `content` is what Stint has written.
ALTER TABLE xero_entries
    ADD difference jsonb,                           -- what somebody has changed, as last read; {"content": null}: it was deleted
    ADD accepted boolean NOT NULL DEFAULT false,    -- an admin has accepted that
    ADD overwrite boolean NOT NULL DEFAULT false,   -- an admin has sent the bill again: Stint writes over it
    ADD recheck boolean NOT NULL DEFAULT false,     -- a list shows another content, or no entry: read the entry
    ADD entry_read_at timestamptz,                  -- when the entry was last read, not in a list
    ADD listed_at timestamptz;                      -- when a check last found the entry in Xero's list

ALTER TABLE xero_tenants ADD differs_told_at timestamptz;   -- when the admins last got a mail about changes by hand
