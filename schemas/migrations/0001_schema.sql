-- The whole schema of version 0.2.0, package by package in the order in which the packages of schemas/ may import each other:
-- postgres, rate_limits, outbox, identity, customers, hours, xero, slack, sync. COMMENT ON TABLE says what a row is; the other
-- comments say why, and which promise of docs/guarantees.md a constraint or an index keeps:
--   promise 1: nothing is lost            promise 3: nobody sees another customer's data
--   promise 2: nothing is done twice      promise 4: the answer comes fast
-- Later changes are one file each, forward only: CONTRIBUTING.md, "A migration".

-- =====================================================================================================================
-- postgres: what all tables share
-- =====================================================================================================================

CREATE TABLE installation (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    singleton boolean NOT NULL DEFAULT true UNIQUE CHECK (singleton)   -- there is exactly one row
);
COMMENT ON TABLE installation IS
    'The identity of this database: one row. A client whose sync cursor names another database must start over.';
INSERT INTO installation DEFAULT VALUES;

-- Sets the two columns that sync reads. changed_xid is the second half of the sync cursor: a reader that saw every transaction
-- below N finished asks for changed_xid >= N next time, so it never misses a write that commits late. A time cannot do that.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id();
    NEW.updated_at := now();
    RETURN NEW;
END $$;

-- =====================================================================================================================
-- rate_limits
-- =====================================================================================================================

CREATE TABLE rate_limits (
    key text PRIMARY KEY,              -- NAME:WHOSE, for example the name of the limit and a client's address
    refilled_at timestamptz NOT NULL   -- when the whole burst is available again; a time in the past means that it is now
) WITH (fillfactor = 50);              -- free space in each page, for updates in place
COMMENT ON TABLE rate_limits IS
    'How much of one rate limit is used up (GCRA: one row a key, no history). In Postgres, so that it holds across processes.';
CREATE INDEX rate_limits_refilled ON rate_limits (refilled_at);   -- to prune what is refilled

-- =====================================================================================================================
-- outbox: messages, their failed attempts, dead letters, replays, metrics
-- =====================================================================================================================

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    actor text NOT NULL,                           -- the handler: the message's class in snake_case
    queue text NOT NULL,
    body jsonb NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'sent', 'calling', 'done', 'dead', 'discarded')),
    delivery_number integer NOT NULL DEFAULT 0,    -- how often it was published to RabbitMQ; only the latest delivery counts
    available_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,           -- never reset; the message is dead when it reaches max_attempts
    max_attempts integer NOT NULL,                 -- a replay raises it
    crashes integer NOT NULL DEFAULT 0,            -- attempts in which the worker process ended
    replays integer NOT NULL DEFAULT 0,            -- how often a person replayed it
    started_delivery integer,                      -- null: not suspected of crashing workers; else the last delivery_number
                                                   -- whose handler was started (0: none yet)
    lease_token uuid,
    lease_until timestamptz,
    cause_id uuid,                                 -- the message whose handler enqueued this one
    created_by uuid,                               -- the user whose request enqueued it
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    sent_by bigint,                                -- the key of the advisory lock of the relay that claimed it
    done_at timestamptz,
    died_at timestamptz,                           -- when it last became a dead letter; a replay keeps it
    error text,                                    -- of the last failed attempt
    fingerprint text,                              -- the failure group of the last failed attempt
    -- promise 2: only the owner of the lease can settle a message that is calling
    CHECK ((state = 'calling') = (lease_token IS NOT NULL)),
    CHECK ((state = 'calling') = (lease_until IS NOT NULL)),
    CHECK ((state = 'done') = (done_at IS NOT NULL)),
    -- promise 1: the rescuer finds by sent_at what was sent and never handled
    CHECK (state <> 'sent' OR sent_at IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE messages IS
    'A piece of work that a transaction promised: transactional outbox, retry queue and dead letters in one. '
    'RabbitMQ carries only (id, delivery_number).';
CREATE INDEX messages_ready ON messages (queue, available_at, id) WHERE state = 'ready';   -- what the relay claims next
CREATE INDEX messages_sent ON messages (queue, sent_at) WHERE state = 'sent';
CREATE INDEX messages_calling ON messages (lease_until) WHERE state = 'calling';
CREATE INDEX messages_done ON messages (done_at) WHERE state = 'done';                     -- to prune
CREATE INDEX messages_cause ON messages (cause_id) WHERE cause_id IS NOT NULL;
-- Lists of dead letters, newest first: all, by state, group, actor and queue. Partial: other messages cost nothing.
CREATE INDEX messages_died ON messages (died_at, id) WHERE state IN ('dead', 'discarded');
CREATE INDEX messages_discarded ON messages (died_at, id) WHERE state = 'discarded';
CREATE INDEX messages_of_group ON messages (fingerprint, died_at, id) WHERE state = 'dead';
CREATE INDEX messages_of_actor_dead ON messages (actor, died_at, id) WHERE state = 'dead';
CREATE INDEX messages_of_queue_dead ON messages (queue, died_at, id) WHERE state = 'dead';
-- how the replays of one group ended
CREATE INDEX messages_replayed ON messages (fingerprint, state) WHERE replays > 0;

-- The list of dead letters is in the order of died_at, so each one must have it, also one that was made dead by hand, in SQL.
CREATE FUNCTION record_death() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.died_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER record_death BEFORE INSERT OR UPDATE ON messages FOR EACH ROW
    WHEN (NEW.state IN ('dead', 'discarded') AND NEW.died_at IS NULL) EXECUTE FUNCTION record_death();

CREATE TABLE message_attempts (
    message_id uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
    n integer NOT NULL,                            -- from 1; a replay does not reset it
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    error_class text NOT NULL,
    error text NOT NULL,
    traceback text NOT NULL,
    worker text NOT NULL,                          -- host:pid
    frame text NOT NULL DEFAULT '',                -- the innermost frame of Stint's own code, as file:function
    PRIMARY KEY (message_id, n)
);
COMMENT ON TABLE message_attempts IS 'One failed attempt of a message.';

CREATE TABLE message_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,
    action text NOT NULL CHECK (action IN ('replay', 'discard', 'restore', 'edit')),
    reason text NOT NULL
);
COMMENT ON TABLE message_events IS 'One action of a person on a message, and the reason. Append-only.';
CREATE INDEX message_events_of_message ON message_events (message_id);

CREATE TABLE failure_groups (
    fingerprint text PRIMARY KEY,                  -- a hash of the next three columns
    actor text NOT NULL,
    error_class text NOT NULL,
    frame text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),    -- to the minute: a thousand deaths at once must not wait for this row
    alerted_at timestamptz                         -- when OPS_EMAIL was alerted; null: not yet
);
COMMENT ON TABLE failure_groups IS
    'One kind of dead letter: the same actor, error class and frame. One alert is sent for each.';
CREATE INDEX failure_groups_unalerted ON failure_groups (first_at) WHERE alerted_at IS NULL;

-- Promise 1: nothing that arrived over RabbitMQ is dropped.
CREATE TABLE unrecognized_messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queue text NOT NULL,
    reason text NOT NULL,
    body bytea NOT NULL,
    headers text NOT NULL,                         -- as pika decoded them; text, since they may contain what jsonb cannot
    discarded_at timestamptz                       -- null: not discarded
);
COMMENT ON TABLE unrecognized_messages IS
    'A delivery from RabbitMQ that is not one of our messages, byte for byte. It cannot be replayed, and is never deleted.';
CREATE INDEX unrecognized_messages_listed ON unrecognized_messages (at, id);
CREATE INDEX unrecognized_messages_of_queue ON unrecognized_messages (queue, at, id);
-- a small index, to count them for metrics and groups
CREATE INDEX unrecognized_messages_kept ON unrecognized_messages (queue) WHERE discarded_at IS NULL;

CREATE TABLE unrecognized_message_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL REFERENCES unrecognized_messages ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,
    action text NOT NULL CHECK (action IN ('discard', 'restore')),
    reason text NOT NULL
);
COMMENT ON TABLE unrecognized_message_events IS
    'One action of a person on an unrecognized message, and the reason. Append-only; discarded_at there is the current state.';
CREATE INDEX unrecognized_message_events_of_message ON unrecognized_message_events (message_id);

CREATE TABLE unrecognized_groups (
    queue text NOT NULL,
    reason text NOT NULL,                          -- one of Stint's own texts, never the sender's: a few dozen at most
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),    -- to the minute, as in failure_groups
    alerted_at timestamptz,                        -- when OPS_EMAIL was alerted; null: not yet
    PRIMARY KEY (queue, reason)
);
COMMENT ON TABLE unrecognized_groups IS
    'One kind of unrecognized message: the same queue and reason. One alert is sent for each.';
CREATE INDEX unrecognized_groups_unalerted ON unrecognized_groups (first_at) WHERE alerted_at IS NULL;

-- Dead letters and unrecognized messages with one set of columns. Each half has an index in the list's order.
CREATE VIEW dead_messages AS
    SELECT id, 'message' AS kind, actor, queue, state, error, fingerprint, attempts, replays, created_at, died_at,
           body::text AS body
    FROM messages WHERE state IN ('dead', 'discarded');
COMMENT ON VIEW dead_messages IS 'Messages that are dead or discarded.';
CREATE VIEW listed_unrecognized_messages AS
    SELECT id, 'unrecognized' AS kind, NULL::text AS actor, queue,
           CASE WHEN discarded_at IS NULL THEN 'dead' ELSE 'discarded' END AS state, reason AS error, NULL::text AS fingerprint,
           0 AS attempts, 0 AS replays, at AS created_at, at AS died_at, encode(body, 'escape') AS body
    FROM unrecognized_messages;
COMMENT ON VIEW listed_unrecognized_messages IS 'Unrecognized messages, in the columns of dead_messages.';
CREATE VIEW dead_letters AS SELECT * FROM dead_messages UNION ALL SELECT * FROM listed_unrecognized_messages;
COMMENT ON VIEW dead_letters IS
    'Dead messages and unrecognized ones together, as lists and selections of dead letters read them.';

CREATE TABLE replays (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    who text NOT NULL,
    reason text NOT NULL,
    rate_per_second double precision CHECK (rate_per_second > 0),  -- null: no limit
    canary integer CHECK (canary > 0),             -- this many are replayed first; if one of them dies again, the replay stops
    total integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopped', 'cancelled', 'done')),
    stopped_because text,
    created_at timestamptz NOT NULL DEFAULT now(),
    running_since timestamptz,                     -- when the canary had succeeded; the rate counts from here
    ended_at timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
COMMENT ON TABLE replays IS
    'One replay of dead letters: a selection, frozen when it was made, and its progress. The relays advance it.';
CREATE INDEX replays_running ON replays (created_at) WHERE state = 'running';
CREATE INDEX replays_ended ON replays (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE replay_messages (
    replay_id uuid NOT NULL REFERENCES replays ON DELETE CASCADE,
    n integer NOT NULL,                            -- in the order of died_at
    message_id uuid NOT NULL,                      -- no foreign key: messages that are done are pruned
    sent_at timestamptz,
    -- skipped: it was no longer dead when the replay reached it, or the replay ended before
    outcome text CHECK (outcome IN ('succeeded', 'failed', 'skipped')),
    PRIMARY KEY (replay_id, n)
);
COMMENT ON TABLE replay_messages IS 'One message of a replay, and how it ended.';
CREATE INDEX replay_messages_unsent ON replay_messages (replay_id, n) WHERE sent_at IS NULL AND outcome IS NULL;
CREATE INDEX replay_messages_open ON replay_messages (replay_id, n) WHERE sent_at IS NOT NULL AND outcome IS NULL;

CREATE TABLE replay_totals (
    outcome text PRIMARY KEY,
    messages bigint NOT NULL
);
COMMENT ON TABLE replay_totals IS
    'How many messages of pruned replays ended with this outcome: the metric stint_replayed_total must never fall.';

CREATE TABLE heartbeats (
    process text PRIMARY KEY,                      -- host:pid
    kind text NOT NULL CHECK (kind IN ('relay', 'work')),
    queues text[] NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL                   -- alive: seen within the last seconds
);
COMMENT ON TABLE heartbeats IS 'One worker or relay process that runs, or ran.';

CREATE TABLE handler_totals (
    actor text PRIMARY KEY,
    handled bigint NOT NULL,                       -- attempts that succeeded
    failed bigint NOT NULL,                        -- attempts that failed
    seconds double precision NOT NULL,
    buckets bigint[] NOT NULL                      -- a cumulative histogram; bounds: BOUNDS in schemas/outbox/heartbeats.py
);
COMMENT ON TABLE handler_totals IS 'Metrics of one handler. Each worker adds its own with its heartbeat.';

-- =====================================================================================================================
-- identity: users, signing in
-- =====================================================================================================================

CREATE TABLE users (
    id uuid PRIMARY KEY,                           -- the token's `sub`
    email text NOT NULL,
    name text NOT NULL,
    role text,                                     -- custom:userRole as last seen; null: none was ever seen
    customer_id uuid,                              -- custom:customerId as last seen. No foreign key: the token decides
    provider_username text,                        -- the id at the identity provider; null: the same as id
    invited_at timestamptz,                        -- null: not invited
    joined_at timestamptz,                         -- the first request; null: none yet
    revoked_at timestamptz,                        -- checked with each request: a removal works at once
    -- Promise 3: an invitation to an address that another account has. To the inviter it looks like any other, and nobody can
    -- ever sign in as this user.
    account_elsewhere boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL,
    CONSTRAINT account_elsewhere_never_joins CHECK (NOT account_elsewhere OR joined_at IS NULL AND invited_at IS NOT NULL)
);
COMMENT ON TABLE users IS
    'A person: everyone whose token was ever accepted, who was invited, or whom `./stint user add` added.';
CREATE INDEX users_email ON users (lower(email));
CREATE INDEX users_listed ON users (created_at, id);
-- promise 3: deleting a customer revokes its users in the same transaction, without reading all users
CREATE INDEX users_of_customer ON users (customer_id) WHERE customer_id IS NOT NULL;
-- promise 3: open event streams learn of a removed user
CREATE INDEX users_changed ON users (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    private_pem text NOT NULL,                     -- encrypted under SECRET_KEY
    public_jwk jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON TABLE signing_keys IS 'A key that the local identity provider signs tokens with.';

CREATE TABLE sign_in_codes (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    code_hash bytea NOT NULL,                      -- keyed with SECRET_KEY
    tries smallint NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE sign_in_codes IS 'A code to sign in with that was sent by mail. Deleted when it is used.';
CREATE INDEX sign_in_codes_of_user ON sign_in_codes (user_id);
CREATE INDEX sign_in_codes_expired ON sign_in_codes (expires_at);

-- =====================================================================================================================
-- customers: customers, pillars, tasks, focus, leads
-- =====================================================================================================================

CREATE TABLE customers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    email text,
    phone text,
    notes text NOT NULL DEFAULT '',
    active boolean NOT NULL DEFAULT true,
    rounding_increment smallint NOT NULL DEFAULT 1 CHECK (rounding_increment IN (1, 5, 6, 10, 15, 30)),   -- minutes
    rounding_mode text NOT NULL DEFAULT 'nearest' CHECK (rounding_mode IN ('nearest', 'up')),
    xero_contact_id text,
    xero_project_id text,
    created_from bytea NOT NULL,       -- fingerprint of the request's body: the same id with the same body is the same create
    created_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,            -- a tombstone: clients that sync must learn of the deletion
    changed_xid xid8 NOT NULL
);
COMMENT ON TABLE customers IS 'A customer of the firm.';
CREATE INDEX customers_listed ON customers (created_at, id);
CREATE INDEX customers_named ON customers (lower(name));
CREATE INDEX customers_synced ON customers (changed_xid, id);
CREATE INDEX customers_updated ON customers (updated_at, id);   -- for clients that send a time instead of a cursor
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE pillars (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers,
    name text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    is_default boolean NOT NULL DEFAULT false,
    xero_task_id text,
    slack_channel_id text,
    created_from bytea,                -- as in customers; null: made together with its customer
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    UNIQUE (id, customer_id),          -- promise 3: other tables refer to this pair, so to a pillar of that customer
    CONSTRAINT default_is_active CHECK (active OR NOT is_default)   -- a task without a named pillar always has one
);
COMMENT ON TABLE pillars IS 'An area of work that was agreed with a customer. Each customer has one that is the default.';
CREATE UNIQUE INDEX pillars_name ON pillars (customer_id, lower(name)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX pillars_default ON pillars (customer_id) WHERE is_default;
CREATE INDEX pillars_listed ON pillars (customer_id, created_at, id);
CREATE INDEX pillars_synced ON pillars (changed_xid, id);
CREATE INDEX pillars_updated ON pillars (updated_at, id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON pillars FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE tasks (
    id uuid PRIMARY KEY,
    title text NOT NULL,
    description text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'done', 'archived')),
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid NOT NULL,
    assignee_id uuid REFERENCES users,
    priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    due_date date,
    source text NOT NULL DEFAULT 'web' CHECK (source IN ('web', 'desktop', 'slack')),
    created_from bytea NOT NULL,
    created_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id)   -- promise 3
);
COMMENT ON TABLE tasks IS 'A piece of work for a customer that consultants record time on.';
CREATE INDEX tasks_listed ON tasks (created_at, id);
CREATE INDEX tasks_of_customer ON tasks (customer_id, created_at, id);
CREATE INDEX tasks_of_assignee ON tasks (assignee_id, created_at, id);
-- a user's own tasks include those that the user created and that are assigned to nobody
CREATE INDEX tasks_unassigned ON tasks (created_by, created_at, id) WHERE assignee_id IS NULL AND deleted_at IS NULL;
CREATE INDEX tasks_synced ON tasks (changed_xid, id);
CREATE INDEX tasks_updated ON tasks (updated_at, id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE focus (
    user_id uuid PRIMARY KEY REFERENCES users,     -- one focus a user
    customer_id uuid NOT NULL REFERENCES customers,
    since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL,
    CHECK (expires_at >= since)
);
COMMENT ON TABLE focus IS
    'The customer that a user looks at, or looked at last. A cleared focus stays, expired, so that sync sees the change.';
CREATE INDEX focus_on_customer ON focus (customer_id);   -- deleting a customer ends these
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON focus FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE leads (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    email text NOT NULL,
    company text,
    phone text,
    message text,
    extra jsonb NOT NULL,              -- fields of the form that Stint does not know
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leads IS 'What somebody sent with the firm''s contact form.';
CREATE INDEX leads_listed ON leads (created_at, id);

-- =====================================================================================================================
-- hours: timers, time entries, time bills, recompute
-- =====================================================================================================================

-- Minutes as billed: seconds rounded to the customer's increment. The only place that knows the rule.
CREATE FUNCTION billed_minutes(seconds bigint, increment smallint, mode text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE mode
        WHEN 'up' THEN (seconds + increment * 60 - 1) / (increment * 60)
        ELSE (seconds + increment * 30) / (increment * 60)
    END * increment;

CREATE TABLE timers (
    user_id uuid PRIMARY KEY REFERENCES users,     -- promise 2: a user cannot have two running timers
    id uuid NOT NULL UNIQUE,                       -- becomes the id of the time entry
    task_id uuid NOT NULL REFERENCES tasks,
    start_time timestamptz NOT NULL CHECK (start_time = date_trunc('second', start_time, 'UTC')),
    notes text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    changed_xid xid8 NOT NULL
);
COMMENT ON TABLE timers IS 'A running timer.';
CREATE INDEX timers_of_task ON timers (task_id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON timers FOR EACH ROW EXECUTE FUNCTION touch();

-- Promise 2: a repeated stop gets the same answer, until the task is started again.
CREATE TABLE stops (
    user_id uuid NOT NULL REFERENCES users,
    task_id uuid NOT NULL REFERENCES tasks,
    entry_id uuid NOT NULL,
    message_id uuid NOT NULL,          -- the StopTimer message that makes the entry; ?wait waits for this one
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL CHECK (end_time >= start_time),
    PRIMARY KEY (user_id, task_id)
);
COMMENT ON TABLE stops IS 'The last stop of a task''s timer by a user.';

CREATE TABLE time_bills (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users,
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid NOT NULL,
    date date NOT NULL,
    seconds bigint NOT NULL DEFAULT 0 CHECK (seconds >= 0),
    rounding_increment smallint NOT NULL CHECK (rounding_increment IN (1, 5, 6, 10, 15, 30)),
    rounding_mode text NOT NULL CHECK (rounding_mode IN ('nearest', 'up')),
    minutes bigint GENERATED ALWAYS AS (billed_minutes(seconds, rounding_increment, rounding_mode)) STORED,
    stale boolean NOT NULL DEFAULT false,          -- an entry changed and `seconds` is not recalculated yet
    memo text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected')),
    rejection_note text,
    approved_by uuid REFERENCES users,
    approved_at timestamptz,
    approved_seconds bigint,
    xero_status text NOT NULL DEFAULT 'none'
        CHECK (xero_status IN ('none', 'queued', 'synced', 'failed', 'not_connected', 'not_mapped', 'withdrawing')),
    xero_time_entry_id text,
    xero_error text,
    xero_synced_at timestamptz,
    xero_invoiced_at timestamptz,                  -- when its entry was first seen locked or invoiced in Xero
    created_at timestamptz NOT NULL DEFAULT now(), -- when it was opened; not when it last became pending
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    -- The transaction that last approved or reopened the bill; null: none. Whether an entry is locked depends on its bill: sync
    -- sends the entries of these bills again, and not those of bills that only got another sum or memo.
    locked_xid xid8,
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id),   -- promise 3
    UNIQUE (id, user_id, customer_id, pillar_id, date),                          -- for the foreign key of time_entries
    CHECK ((status = 'rejected') = (rejection_note IS NOT NULL)),
    -- promise 2: what was approved stays as it was approved
    CONSTRAINT approved_is_frozen CHECK (
        status <> 'approved'
        OR approved_at IS NOT NULL AND approved_by IS NOT NULL AND approved_seconds = seconds
            AND NOT stale AND deleted_at IS NULL)
);
COMMENT ON TABLE time_bills IS 'A consultant''s hours for one customer and pillar on one day, approved and billed as a whole.';
-- Promise 2: one open bill for each key, so that concurrent writes cannot split its hours. Once it is approved, time that is
-- recorded late opens a second one.
CREATE UNIQUE INDEX time_bills_open ON time_bills (user_id, customer_id, pillar_id, date)
    WHERE status <> 'approved' AND deleted_at IS NULL;
CREATE INDEX time_bills_of_user ON time_bills (user_id, date, id);
CREATE INDEX time_bills_of_customer ON time_bills (customer_id, date, id);
CREATE INDEX time_bills_listed ON time_bills (date, id);
CREATE INDEX time_bills_unapproved ON time_bills (status, date, id) WHERE status <> 'approved' AND deleted_at IS NULL;
-- the newest bills are not approved yet: a list of approved ones must not read weeks of others first
CREATE INDEX time_bills_approved ON time_bills (date, id) WHERE status = 'approved' AND deleted_at IS NULL;
CREATE INDEX time_bills_stale ON time_bills (id) WHERE stale;
-- recompute compares open bills with their entries by two indexes in the same order, without reading either table
CREATE INDEX time_bills_sums ON time_bills (id) INCLUDE (seconds, stale, user_id, customer_id, pillar_id, date)
    WHERE status <> 'approved' AND deleted_at IS NULL;
CREATE INDEX time_bills_synced ON time_bills (changed_xid, id);
CREATE INDEX time_bills_of_user_synced ON time_bills (user_id, changed_xid, id);   -- a desktop keeps its own user's hours
CREATE INDEX time_bills_of_user_updated ON time_bills (user_id, updated_at, id);
CREATE INDEX time_bills_relocked ON time_bills (user_id, locked_xid) WHERE locked_xid IS NOT NULL;
-- bills that wait for Xero, to queue them once the cause is fixed
CREATE INDEX time_bills_waiting_for_xero ON time_bills (xero_status, customer_id, id)
    WHERE xero_status IN ('queued', 'failed', 'not_connected', 'not_mapped', 'withdrawing');
CREATE INDEX time_bills_synced_to_xero ON time_bills (xero_synced_at) WHERE xero_synced_at IS NOT NULL;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON time_bills FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION record_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.locked_xid := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER record_lock BEFORE UPDATE OF status ON time_bills FOR EACH ROW
    WHEN ((OLD.status = 'approved') <> (NEW.status = 'approved')) EXECUTE FUNCTION record_lock();

CREATE TABLE time_entries (
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL REFERENCES tasks,
    user_id uuid NOT NULL REFERENCES users,
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid NOT NULL,
    start_time timestamptz NOT NULL CHECK (start_time = date_trunc('second', start_time, 'UTC')),
    end_time timestamptz NOT NULL CHECK (end_time = date_trunc('second', end_time, 'UTC')),
    duration bigint GENERATED ALWAYS AS (extract(epoch FROM end_time - start_time)::bigint) STORED,   -- seconds, not rounded
    date date NOT NULL,                -- the day of start_time in STINT_TIMEZONE: the day that it is billed on
    notes text NOT NULL DEFAULT '',
    flags text[] NOT NULL DEFAULT '{}',
    bill_id uuid,                      -- null only between an import and the recompute that follows it
    created_from bytea,                -- of an entry that was made by hand, as in customers; null: made by a timer
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    CHECK (end_time >= start_time),
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id),   -- promise 3
    -- promise 2: an entry is on one bill, and that bill is of the entry's own user, customer, pillar and day
    FOREIGN KEY (bill_id, user_id, customer_id, pillar_id, date)
        REFERENCES time_bills (id, user_id, customer_id, pillar_id, date)
);
COMMENT ON TABLE time_entries IS 'A stretch of time that a consultant worked on a task.';
CREATE INDEX time_entries_listed ON time_entries (start_time, id);
CREATE INDEX time_entries_of_user ON time_entries (user_id, start_time, id);
CREATE INDEX time_entries_of_customer ON time_entries (customer_id, start_time, id);
CREATE INDEX time_entries_of_task ON time_entries (task_id, start_time, id);
-- a bill's sum is read from the index alone
CREATE INDEX time_entries_summed ON time_entries (bill_id) INCLUDE (duration) WHERE deleted_at IS NULL;
-- imported and not on a bill yet: recompute reads these, one user's day after another
CREATE INDEX time_entries_unbilled ON time_entries (user_id, date, id) WHERE bill_id IS NULL AND deleted_at IS NULL;
-- Longer than an entry that is made by hand may be (31 days): these few may overlap days long after their start, so the check
-- for overlaps looks for them separately.
CREATE INDEX time_entries_very_long ON time_entries (user_id) WHERE duration > 2678400 AND deleted_at IS NULL;
CREATE INDEX time_entries_of_user_synced ON time_entries (user_id, changed_xid, id);
CREATE INDEX time_entries_of_user_updated ON time_entries (user_id, updated_at, id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON time_entries FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE recompute_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    start_date date,
    end_date date,
    customer_id uuid,
    user_id uuid,
    dry_run boolean NOT NULL,
    total bigint,                      -- entries without a bill plus open bills, counted at the start; null: not started
    done bigint NOT NULL DEFAULT 0,
    message_id uuid,                   -- the message that processes the next chunk: if it is dead, so is the job
    created_by uuid REFERENCES users,  -- null: from the command line
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
COMMENT ON TABLE recompute_jobs IS
    'One run over all or some bills: it gives bills to entries without one and corrects sums, in chunks, one message each.';
CREATE INDEX recompute_jobs_finished ON recompute_jobs (finished_at);

CREATE TABLE recompute_changes (
    job_id uuid NOT NULL REFERENCES recompute_jobs ON DELETE CASCADE,
    n bigint GENERATED ALWAYS AS IDENTITY,
    bill_id uuid,                      -- null: a dry run would create the bill
    user_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    pillar_id uuid NOT NULL,
    date date NOT NULL,
    seconds_before bigint,             -- null: there was no bill
    seconds_after bigint NOT NULL,
    entries_added bigint NOT NULL,
    PRIMARY KEY (job_id, n)
);
COMMENT ON TABLE recompute_changes IS 'One bill that a recompute job changed, or in a dry run would change.';
CREATE UNIQUE INDEX recompute_changes_of_bill ON recompute_changes (job_id, bill_id);

-- =====================================================================================================================
-- xero: the connection, what is known of each bill's entry in Xero, Xero's rate limits
-- =====================================================================================================================

-- The row always exists, so that it can be locked:
--   FOR UPDATE          connects or disconnects
--   FOR NO KEY UPDATE   refreshes the tokens, one transaction at a time
--   FOR KEY SHARE       needs the organisation to stay the same until the transaction ends
CREATE TABLE xero_connection (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    singleton boolean NOT NULL DEFAULT true UNIQUE CHECK (singleton),   -- so that there is one row at most
    tenant_id text,                    -- null: not connected
    tenant_name text,
    connection_id text,                -- Xero's id of the connection between the organisation and this app
    access_token text,                 -- encrypted under SECRET_KEY with the row's id as associated data, as is the next one
    refresh_token text,                -- valid for 60 days, and replaced each time it is used
    expires_at timestamptz,            -- of the access token
    connected_at timestamptz,
    connected_by uuid REFERENCES users,
    needs_reconnect_at timestamptz,    -- when Xero first refused the refresh token; the admins got a mail then
    check_message_id uuid,             -- the message that checks next for invoiced entries: there is one chain of these
    CHECK ((tenant_id IS NULL) = (connection_id IS NULL)),
    CHECK (tenant_id IS NULL OR access_token IS NOT NULL AND refresh_token IS NOT NULL AND expires_at IS NOT NULL)
);
COMMENT ON TABLE xero_connection IS 'The firm''s connection to its Xero organisation: one row, also while it is not connected.';
INSERT INTO xero_connection DEFAULT VALUES;

CREATE TABLE xero_oauth_states (
    state_hash bytea PRIMARY KEY,      -- only a hash of the state is kept; it is good for one use
    user_id uuid NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE xero_oauth_states IS 'An admin whom Stint sent to Xero for consent and who has not come back yet.';
CREATE INDEX xero_oauth_states_expired ON xero_oauth_states (expires_at);

CREATE TABLE xero_users (
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    email text NOT NULL,               -- in lower case
    PRIMARY KEY (tenant_id, user_id)
);
COMMENT ON TABLE xero_users IS
    'A user in Xero whom a time entry there may name, as last read. Stint''s users are matched by e-mail address.';
CREATE INDEX xero_users_email ON xero_users (tenant_id, email);

-- Promise 2: the intended call is committed here before it is made. The row exists before the first call for the bill and is
-- never deleted, since its revision must not be used twice.
CREATE TABLE xero_entries (
    bill_id uuid PRIMARY KEY REFERENCES time_bills,
    withdrawing boolean NOT NULL DEFAULT false,    -- an admin reopens the bill: the entry has to be deleted first
    tenant_id text,                                -- where the entry is, or may be, as is the next one
    project_id text,
    entry_ids text[] NOT NULL DEFAULT '{}',        -- the entries found: one at most, unless somebody copied it by hand
    revision integer NOT NULL DEFAULT 0,           -- together with the bill's id the Idempotency-Key of the last create
    content jsonb,                                 -- the entry's content, as last sent or last seen there
    create_attempted_at timestamptz,               -- when a create was sent whose outcome is not known
    outcome_unknown boolean NOT NULL DEFAULT false,   -- look the entry up before any other call
    searched_pages integer NOT NULL DEFAULT 0,     -- pages of the list that this look-up has read
    entry_status text,                             -- of the entry that is kept: ACTIVE, LOCKED or INVOICED, as last seen
    refused boolean NOT NULL DEFAULT false,        -- Xero refused to change or delete the entry: read it first to learn why
    reopen_error text,                             -- why a reopening failed
    claimed_by uuid,                               -- the message that makes calls for this bill, while it is `calling`
    slot_at timestamptz,                           -- until when the bill waits for a slot of the rate limit
    invoice_checked_at timestamptz,                -- when it was last known not to be invoiced
    CHECK (NOT outcome_unknown OR create_attempted_at IS NOT NULL),
    CHECK (create_attempted_at IS NULL OR content IS NOT NULL AND project_id IS NOT NULL)
);
COMMENT ON TABLE xero_entries IS 'What Stint knows of a bill''s time entry in Xero.';
-- to find the project whose entries were not checked for invoices for the longest time
CREATE INDEX xero_entries_unchecked ON xero_entries (invoice_checked_at) WHERE invoice_checked_at IS NOT NULL;

CREATE TABLE xero_tenants (
    tenant_id text PRIMARY KEY,
    paused_until timestamptz NOT NULL DEFAULT '-infinity',         -- Xero answered with Retry-After
    reserved_until timestamptz NOT NULL DEFAULT '-infinity',       -- the last slot that was given to a waiting caller
    users_requested_at timestamptz NOT NULL DEFAULT '-infinity',   -- when a read of xero_users was started
    users_fetched_at timestamptz NOT NULL DEFAULT '-infinity'       -- when it succeeded
) WITH (fillfactor = 50);
COMMENT ON TABLE xero_tenants IS
    'What all callers of one Xero organisation share. A caller locks the row before each call, to keep the rate limits.';

CREATE TABLE xero_calls (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL,
    finished boolean NOT NULL DEFAULT false,
    ends_at timestamptz NOT NULL       -- when it ended; while it is not finished, the latest time at which it can end
) WITH (fillfactor = 70);
COMMENT ON TABLE xero_calls IS
    'A call to Xero. It may arrive there at any time until it ends, so it counts for the rate limit from its end.';
CREATE INDEX xero_calls_ends_at ON xero_calls (tenant_id, ends_at);
CREATE INDEX xero_calls_unfinished ON xero_calls (tenant_id) WHERE NOT finished;

-- =====================================================================================================================
-- slack: channels, members, what came in and what went out
-- =====================================================================================================================

CREATE TABLE slack_channel_mappings (
    id uuid PRIMARY KEY,
    channel_id text NOT NULL,
    channel_name text NOT NULL,
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid,                    -- preset in the form; null: none
    created_from bytea NOT NULL,       -- as in customers
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id)   -- promise 3
);
COMMENT ON TABLE slack_channel_mappings IS
    'The one customer that a Slack channel belongs to: preset in the form, and all that Stint shows in that channel.';
-- promise 3: a channel never belongs to two customers
CREATE UNIQUE INDEX slack_channel_mappings_channel ON slack_channel_mappings (channel_id) WHERE deleted_at IS NULL;
CREATE INDEX slack_channel_mappings_listed ON slack_channel_mappings (created_at, id);
-- deleting a customer or a pillar looks for its channels
CREATE INDEX slack_channel_mappings_of_customer ON slack_channel_mappings (customer_id) WHERE deleted_at IS NULL;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON slack_channel_mappings FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE slack_users (
    slack_id text PRIMARY KEY,
    email text NOT NULL,               -- empty: Slack shows none
    refusal text CHECK (refusal IN ('bot', 'deleted', 'other_workspace')),   -- null: a person of this workspace
    fetched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE slack_users IS
    'A cached answer of Slack''s users.info. Whether this person may use Stint is looked up in users, by e-mail, each time.';
CREATE INDEX slack_users_email ON slack_users (lower(email));   -- a reminder finds the Slack member of a user

-- Promise 2: Slack repeats a request whose answer it did not get.
CREATE TABLE slack_deduplication (
    key text PRIMARY KEY,              -- event:…, view:… or trigger:…, and Slack's id
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE slack_deduplication IS 'A request of Slack''s whose effect is committed. Deleted after 48 hours.';
CREATE INDEX slack_deduplication_at ON slack_deduplication (at);

CREATE TABLE slack_posts (
    message_id uuid PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    channel_id text NOT NULL,
    slot_at timestamptz,               -- its slot in the channel's rate limit, good for one try; null: used
    post_started_at timestamptz,       -- when the call was made; not null while ts is null: its outcome is not known
    ts text                            -- Slack's id of the posted message
);
COMMENT ON TABLE slack_posts IS 'The post that a message makes: its slot in the channel, and whether Slack accepted it.';

CREATE TABLE slack_revocations (
    token_hash bytea PRIMARY KEY,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE slack_revocations IS
    'A bot token that Slack has revoked, by its hash. Nothing is posted with it; a new token has another hash.';

-- =====================================================================================================================
-- sync: what clients learn of rows that are gone, operations that clients queued, live events
-- =====================================================================================================================

CREATE TABLE task_moves (
    task_id uuid NOT NULL REFERENCES tasks,
    customer_id uuid NOT NULL REFERENCES customers,   -- the one that it left
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL,
    PRIMARY KEY (task_id, customer_id)
);
COMMENT ON TABLE task_moves IS
    'A customer that a task was moved away from: for that customer''s users it is deleted, and their clients must learn of it.';
CREATE INDEX task_moves_changed ON task_moves (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON task_moves FOR EACH ROW EXECUTE FUNCTION touch();

CREATE TABLE timer_ends (
    user_id uuid PRIMARY KEY REFERENCES users,
    changed_xid xid8 NOT NULL          -- without an index, so that it is updated in place: there is one row a user
) WITH (fillfactor = 50);
COMMENT ON TABLE timer_ends IS 'The transaction that last stopped or discarded a user''s timer, whose row is deleted.';
CREATE FUNCTION record_timer_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timer_ends (user_id, changed_xid) VALUES (OLD.user_id, pg_current_xact_id())
    ON CONFLICT (user_id) DO UPDATE SET changed_xid = excluded.changed_xid;
    RETURN NULL;
END $$;
CREATE TRIGGER record_end AFTER DELETE ON timers FOR EACH ROW EXECUTE FUNCTION record_timer_end();

-- Promise 3: the customer's users learn that the bill is gone, and nothing of what happens to the draft afterwards.
CREATE TABLE bill_reopenings (
    bill_id uuid PRIMARY KEY REFERENCES time_bills,
    customer_id uuid NOT NULL REFERENCES customers,
    changed_xid xid8 NOT NULL
);
COMMENT ON TABLE bill_reopenings IS
    'The transaction that last reopened a bill. The customer''s users see only approved bills, so for them it is deleted.';
CREATE INDEX bill_reopenings_changed ON bill_reopenings (changed_xid);
CREATE FUNCTION record_reopening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bill_reopenings (bill_id, customer_id, changed_xid) VALUES (NEW.id, NEW.customer_id, pg_current_xact_id())
    ON CONFLICT (bill_id) DO UPDATE SET changed_xid = excluded.changed_xid;
    RETURN NULL;
END $$;
CREATE TRIGGER record_reopening AFTER UPDATE OF status ON time_bills FOR EACH ROW
    WHEN (OLD.status = 'approved' AND NEW.status <> 'approved') EXECUTE FUNCTION record_reopening();

-- Promise 2: written in the transaction of the effect, so that no operation has a second one, and a client that did not get the
-- answer can ask again.
CREATE TABLE sync_operations (
    user_id uuid NOT NULL REFERENCES users,
    op_id uuid NOT NULL,               -- the client's
    fingerprint bytea NOT NULL,        -- of the request: the same id with another body is an error
    result json,                       -- null only within the transaction that works on it
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, op_id)       -- a second request waits here for the first, and then finds its result
);
COMMENT ON TABLE sync_operations IS 'The outcome of one operation that a client queued while it was offline. Kept for 90 days.';
CREATE INDEX sync_operations_created ON sync_operations (created_at);

-- Live events: one empty notification a transaction, however many rows it changed. Commits that notify wait for each other, so
-- it must be cheap. None for users: the listeners' poll notices a removed user soon enough.
CREATE FUNCTION notify_listeners() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stint_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON timers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON time_bills
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON focus
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
