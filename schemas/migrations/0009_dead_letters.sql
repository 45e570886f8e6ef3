-- Dead letters that a person can find, understand and replay.

-- ---------------------------------------------------------------------------------------------------------------------
-- What a letter died of

ALTER TABLE messages
    ADD COLUMN died_at timestamptz,                 -- when it became a dead letter, the last time; stays when it is replayed
    ADD COLUMN replays integer NOT NULL DEFAULT 0;  -- how often it was replayed
UPDATE messages m
SET died_at = coalesce((SELECT max(at) FROM message_attempts a WHERE a.message_id = m.id), created_at),
    replays = (SELECT count(*) FROM message_events e WHERE e.message_id = m.id AND e.action = 'replay')
WHERE state IN ('dead', 'discarded');

-- Also for who makes a message dead by hand: the list is in the order of death, and none may stand outside of it.
CREATE FUNCTION note_death() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.died_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER note_death BEFORE INSERT OR UPDATE ON messages FOR EACH ROW
    WHEN (NEW.state IN ('dead', 'discarded') AND NEW.died_at IS NULL) EXECUTE FUNCTION note_death();

ALTER TABLE message_attempts ADD COLUMN frame text NOT NULL DEFAULT '';  -- the innermost one of ours, as file:function

-- Letters that died of the same thing: of one actor, the same error, at the same place. The fingerprint is made of those three.
CREATE TABLE failure_groups (
    fingerprint text PRIMARY KEY,
    actor text NOT NULL,
    error_class text NOT NULL,
    frame text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),     -- to the minute: a thousand deaths at once must not queue up for this row
    told_at timestamptz                             -- when the people on call were told; null: not yet
);
CREATE INDEX failure_groups_untold ON failure_groups (first_at) WHERE told_at IS NULL;
INSERT INTO failure_groups (fingerprint, actor, error_class, frame, first_at, last_at, told_at)
SELECT fingerprint, min(actor), min(split_part(error, ':', 1)), '', min(died_at), max(died_at), now()
FROM messages WHERE state IN ('dead', 'discarded') AND fingerprint IS NOT NULL GROUP BY fingerprint;

-- the list, newest first; each group's letters, in the order in which they are replayed; and what was replayed of each
CREATE INDEX messages_died ON messages (died_at, id) WHERE state IN ('dead', 'discarded');
CREATE INDEX messages_of_group ON messages (fingerprint, died_at, id) WHERE state = 'dead';
CREATE INDEX messages_of_actor_dead ON messages (actor, died_at, id) WHERE state = 'dead';
CREATE INDEX messages_replayed ON messages (fingerprint, state) WHERE replays > 0;
DROP INDEX messages_dead;

-- Foreign letters are looked at and put away like others; they cannot be replayed, since they are no messages of ours.
ALTER TABLE foreign_letters
    ADD COLUMN discarded_at timestamptz,
    ADD COLUMN discarded_by text,
    ADD COLUMN discarded_because text;
CREATE INDEX foreign_letters_listed ON foreign_letters (at, id);

-- Both kinds, with one set of columns. Each part has an index in the list's order.
CREATE VIEW dead_messages AS
    SELECT id, 'message' AS kind, actor, queue, state, error, fingerprint, attempts, replays, created_at, died_at,
           body::text AS body
    FROM messages WHERE state IN ('dead', 'discarded');
CREATE VIEW listed_foreign_letters AS
    SELECT id, 'foreign' AS kind, NULL::text AS actor, queue,
           CASE WHEN discarded_at IS NULL THEN 'dead' ELSE 'discarded' END AS state, reason AS error, NULL::text AS fingerprint,
           0 AS attempts, 0 AS replays, at AS created_at, at AS died_at, encode(body, 'escape') AS body
    FROM foreign_letters;
CREATE VIEW dead_letters AS SELECT * FROM dead_messages UNION ALL SELECT * FROM listed_foreign_letters;

-- ---------------------------------------------------------------------------------------------------------------------
-- Replays: a selection, frozen when it was made, and how far it is. They go on in the relays, whoever asked for them.

CREATE TABLE replays (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    who text NOT NULL,
    reason text NOT NULL,
    rate_per_second double precision CHECK (rate_per_second > 0),  -- null: as fast as they go
    canary integer CHECK (canary > 0),                             -- so many go ahead; should one die again, the rest stay
    total integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopped', 'cancelled', 'done')),
    stopped_because text,
    created_at timestamptz NOT NULL DEFAULT now(),
    flows_since timestamptz,       -- when the canary had passed; the rate counts from here
    ended_at timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX replays_running ON replays (created_at) WHERE state = 'running';

CREATE TABLE replay_letters (
    replay_id uuid NOT NULL REFERENCES replays ON DELETE CASCADE,
    n integer NOT NULL,                                     -- in the order in which they died
    message_id uuid NOT NULL,                               -- no foreign key: what is done is pruned one day
    sent_at timestamptz,
    -- skipped: it was not dead any more when its turn came, or never had one
    outcome text CHECK (outcome IN ('succeeded', 'failed', 'skipped')),
    PRIMARY KEY (replay_id, n)
);
CREATE INDEX replay_letters_unsent ON replay_letters (replay_id, n) WHERE sent_at IS NULL AND outcome IS NULL;
CREATE INDEX replay_letters_open ON replay_letters (replay_id, n) WHERE sent_at IS NOT NULL AND outcome IS NULL;

-- ---------------------------------------------------------------------------------------------------------------------
-- Who is at work, and how it goes

-- One row per worker or relay that runs, or ran: alive are those seen within the last seconds.
CREATE TABLE heartbeats (
    process text PRIMARY KEY,      -- host:pid
    kind text NOT NULL CHECK (kind IN ('relay', 'work')),
    queues text[] NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

-- What handlers did, added up by every worker with its heartbeat.
CREATE TABLE handler_totals (
    actor text PRIMARY KEY,
    handled bigint NOT NULL,       -- attempts that ended well
    failed bigint NOT NULL,        -- attempts that did not
    seconds double precision NOT NULL,
    buckets bigint[] NOT NULL      -- attempts that took at most schemas/heartbeats.py's BOUNDS, cumulative as Prometheus has it
);
