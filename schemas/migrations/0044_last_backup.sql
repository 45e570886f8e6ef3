-- The last backup that ./stint backup made, so that a backup that is not made any more is noticed.

-- =====================================================================================================================
-- postgres: the last backup
-- =====================================================================================================================

CREATE TABLE last_backup (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),   -- one row, or none: no backup was made
    made_at timestamptz NOT NULL,                      -- the archive contains what was committed before
    place text NOT NULL                                -- the directory of the archive, or s3://…
);
COMMENT ON TABLE last_backup IS 'The last archive that ./stint backup made, and where: one row, or none.';
