-- Outages of relays, workers and RabbitMQ that the people on call are told of.

-- =====================================================================================================================
-- outbox: outages
-- =====================================================================================================================

CREATE TABLE outages (
    what text PRIMARY KEY,                     -- `relay`, `worker for bills` or `RabbitMQ`
    words text NOT NULL,                       -- what is wrong
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    over_at timestamptz,                       -- null: it lasts
    is_told boolean NOT NULL DEFAULT false,    -- that it has begun
    try_at timestamptz NOT NULL DEFAULT clock_timestamp()   -- before that, another process is telling it
);
COMMENT ON TABLE outages IS 'An outage of the relays, of the workers of a queue, or of RabbitMQ. It is deleted when it is over.';
