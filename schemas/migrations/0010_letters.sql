-- Foreign letters as dead ones have it: the people on call are told of each new kind, and what a person did to one is kept. A count
-- of what replays did that never falls.

-- Foreign letters that came on one queue for one reason.
CREATE TABLE foreign_groups (
    queue text NOT NULL,
    reason text NOT NULL,                           -- in our words, never a stranger's: there are a few dozen at most
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),     -- to the minute, as in failure_groups
    told_at timestamptz,                            -- when the people on call were told; null: not yet
    PRIMARY KEY (queue, reason)
);
CREATE INDEX foreign_groups_untold ON foreign_groups (first_at) WHERE told_at IS NULL;
INSERT INTO foreign_groups (queue, reason, first_at, last_at, told_at)
SELECT queue, reason, min(at), max(at), now() FROM foreign_letters GROUP BY queue, reason;

-- What a person did to a foreign letter, and why. Append-only; `discarded_at` and its neighbours say how it stands now.
CREATE TABLE foreign_letter_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id uuid NOT NULL REFERENCES foreign_letters ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,
    action text NOT NULL CHECK (action IN ('discard', 'restore')),
    reason text NOT NULL
);
CREATE INDEX foreign_letter_events_of_letter ON foreign_letter_events (letter_id);
INSERT INTO foreign_letter_events (letter_id, at, who, action, reason)
SELECT id, discarded_at, coalesce(discarded_by, ''), 'discard', coalesce(discarded_because, '')
FROM foreign_letters WHERE discarded_at IS NOT NULL ORDER BY discarded_at;

-- What became of the letters of replays that are forgotten: a count of them since ever must not fall.
CREATE TABLE replay_totals (
    outcome text PRIMARY KEY,
    letters bigint NOT NULL
);

-- Lists of foreign letters by queue.
CREATE INDEX foreign_letters_of_queue ON foreign_letters (queue, at, id);
CREATE INDEX foreign_letters_kept ON foreign_letters (queue) WHERE discarded_at IS NULL;  -- counted for metrics and groups; a small one
