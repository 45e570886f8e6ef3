-- Processes that have ended without telling.

-- =====================================================================================================================
-- outbox: heartbeats
-- =====================================================================================================================

ALTER TABLE heartbeats
    -- when it ended as it should; 'infinity': it runs, or has ended without telling; null: of a version that never tells
    ADD COLUMN ended_at timestamptz;

COMMENT ON TABLE outages IS
    'An outage, or a loss that others make up for, that the people on call are told of. It is deleted when it is over.';
