-- Processes that have ended without telling, and that no other one has replaced.

-- =====================================================================================================================
-- outbox: heartbeats
-- =====================================================================================================================

ALTER TABLE heartbeats
    -- when it ended as it should; 'infinity': it runs, or has ended without telling; null: of a version that never tells
    ADD COLUMN ended_at timestamptz,
    -- the process of the same kind, for the same queues, that was started after this one was gone; null: none
    ADD COLUMN replaced_by text;

COMMENT ON TABLE outages IS
    'An outage, or a loss that others make up for, that the people on call are told of. It is deleted when it is over.';
