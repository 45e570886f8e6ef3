-- The names of what customers and pillars are mapped to in Xero, for pages that show a mapping while Xero does not answer.

-- =====================================================================================================================
-- xero
-- =====================================================================================================================

CREATE TABLE xero_names (
    id text PRIMARY KEY,     -- Xero's id of a project or of a task
    name text NOT NULL
);
COMMENT ON TABLE xero_names IS 'The name of a project or task in Xero, as it was last read among those to choose from.';
