-- What each process has found since its last heartbeat: servers that it cannot use, and handlers that do not end.

-- =====================================================================================================================
-- outbox: heartbeats
-- =====================================================================================================================

ALTER TABLE heartbeats
    -- of the connection that recorded it: while it is open and no heartbeat arrives, the process is frozen; null: an older version
    ADD COLUMN backend_pid integer,
    -- by server: {"RabbitMQ": "blocked: low on memory"}
    ADD COLUMN problems jsonb NOT NULL DEFAULT '{}',
    -- of a worker: [{"actor": "sync_bill", "message_id": "…", "seconds": 93}]
    ADD COLUMN late_handlers jsonb NOT NULL DEFAULT '[]';
