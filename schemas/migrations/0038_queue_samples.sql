-- What the page of the queues in the console shows of the last hour.

-- =====================================================================================================================
-- outbox
-- =====================================================================================================================

CREATE TABLE queue_samples (
    at timestamptz,                              -- the beginning of an interval of 30 seconds
    queue text,
    waiting bigint NOT NULL,                     -- due, and not sent to RabbitMQ yet
    later bigint NOT NULL,                       -- ready, for a later time
    running bigint NOT NULL,                     -- sent to RabbitMQ, with a worker, or calling another server
    dead bigint NOT NULL,
    handled bigint NOT NULL,                     -- successful attempts since the installation was created
    oldest_seconds double precision NOT NULL,    -- for how long the oldest message has been due that is not done; 0: none is
    PRIMARY KEY (at, queue)
);
COMMENT ON TABLE queue_samples IS
    'The messages of one queue at one time. Whichever relay is first records it, each 30 seconds; kept for a day.';
