-- What proves that Xero has one entry for a bill: when its create request was sent first and its entry last looked for, what
-- Stint has deleted, and which entries carry the mark of a bill and are not its entry.

-- =====================================================================================================================
-- xero: a create request is forgotten only after a look that began when Xero's list certainly shows its entry
-- =====================================================================================================================

ALTER TABLE xero_entries ADD first_attempted_at timestamptz;          -- the first create request under its Idempotency-Key
ALTER TABLE xero_entries ADD looked_at timestamptz;                   -- when the last look for the entry began
ALTER TABLE xero_entries ADD deleted_ids text[] NOT NULL DEFAULT '{}'; -- entries that Stint deleted: the list may still have them
ALTER TABLE xero_entries ADD delete_attempted_at timestamptz;         -- when a delete was sent whose outcome is not known

-- =====================================================================================================================
-- xero: entries that carry a bill's mark and are not the bill's entry, found by the check of all entries of a project
-- =====================================================================================================================

CREATE TABLE xero_stray_entries (
    tenant_id text NOT NULL,
    entry_id text NOT NULL,
    project_id text NOT NULL,
    bill_id uuid NOT NULL,             -- of its mark; such a bill may not exist
    minutes integer NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, entry_id)
);
COMMENT ON TABLE xero_stray_entries IS
    'Time entries in Xero that carry the mark of a bill and are not its entry. One that two checks have seen is reported.';
