-- When each project was last read in Xero, and the day of each entry that is too many: for the comparison of bills with entries.

-- =====================================================================================================================
-- xero: readings of projects
-- =====================================================================================================================

CREATE TABLE xero_projects (
    tenant_id text NOT NULL,
    project_id text NOT NULL,
    read_at timestamptz,               -- when the last reading of all its entries began; null: none was complete
    tried_at timestamptz,              -- the same of the last reading that was complete, or that Xero has refused
    error text,                        -- why the last one failed
    PRIMARY KEY (tenant_id, project_id)
);
COMMENT ON TABLE xero_projects IS 'When the entries of a project in Xero that bills go to were last read.';

ALTER TABLE xero_stray_entries ADD date date;                       -- null: recorded by the version before
ALTER TABLE xero_tenants ADD reading_requested_at timestamptz;     -- every project is to be read again since then
