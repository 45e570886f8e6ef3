-- Queues at RabbitMQ that are not as the relay would declare them.

-- =====================================================================================================================
-- outbox: heartbeats
-- =====================================================================================================================

ALTER TABLE heartbeats
    ADD COLUMN other_queues text[] NOT NULL DEFAULT '{}';   -- of a relay: each with the difference, in words
