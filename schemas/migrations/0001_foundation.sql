-- The foundation: people, customers, tasks, timers, time entries, time bills, and the ledger of messages.
-- Constraints and indexes say which promise they keep.

-- ---------------------------------------------------------------------------------------------------------------------
-- What every table with a shape shares

-- Names this database to clients that keep a sync cursor: a cursor from another one is told to start over.
CREATE TABLE installation (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    one boolean NOT NULL DEFAULT true UNIQUE CHECK (one)
);
INSERT INTO installation DEFAULT VALUES;

-- changed_xid is the sync cursor's other half: a reader that saw every transaction below N finished asks for changed_xid >= N
-- next time, and so never misses a write that commits late. Clocks cannot do that.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id();
    NEW.updated_at := now();
    RETURN NEW;
END $$;

-- Minutes as billed: seconds rounded to the customer's increment. The only place where the rule is written.
CREATE FUNCTION billed_minutes(seconds bigint, increment smallint, mode text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE mode
        WHEN 'up' THEN (seconds + increment * 60 - 1) / (increment * 60)
        ELSE (seconds + increment * 30) / (increment * 60)
    END * increment;

-- ---------------------------------------------------------------------------------------------------------------------
-- People

-- Everyone whose token was ever accepted, and everyone that `./stint user add` made. id is the token's `sub`.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    name text NOT NULL,
    role text,                 -- custom:userRole as last seen; null: none was ever seen
    customer_id uuid,          -- custom:customerId as last seen; no foreign key: the token, not the table, decides
    revoked_at timestamptz,    -- checked on every request: removing somebody works at once, not when the token expires
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL
);
CREATE INDEX users_email ON users (lower(email));
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();

-- Keys that the local identity provider signs with; the private half is a PEM encrypted under SECRET_KEY.
CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    private_pem text NOT NULL,
    public_jwk jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Customers, pillars, tasks

CREATE TABLE customers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    email text,
    phone text,
    notes text NOT NULL DEFAULT '',
    active boolean NOT NULL DEFAULT true,
    rounding_increment smallint NOT NULL DEFAULT 1 CHECK (rounding_increment IN (1, 5, 6, 10, 15, 30)),
    rounding_mode text NOT NULL DEFAULT 'nearest' CHECK (rounding_mode IN ('nearest', 'up')),
    xero_contact_id text,
    xero_project_id text,
    created_from bytea NOT NULL,   -- fingerprint of the body: a repeated create with the same one is the same create
    created_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,        -- a tombstone: clients that sync must hear of it
    changed_xid xid8 NOT NULL
);
CREATE INDEX customers_listed ON customers (created_at, id);
CREATE INDEX customers_named ON customers (lower(name));
CREATE INDEX customers_changed ON customers (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();

-- An area of work agreed with a customer.
CREATE TABLE pillars (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers,
    name text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    is_default boolean NOT NULL DEFAULT false,
    xero_task_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    UNIQUE (id, customer_id)       -- lets others refer to "this pillar, of this customer": promise 3 as a foreign key
);
CREATE UNIQUE INDEX pillars_name ON pillars (customer_id, lower(name)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX pillars_default ON pillars (customer_id) WHERE is_default;
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
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id)
);
CREATE INDEX tasks_listed ON tasks (created_at, id);
CREATE INDEX tasks_of_customer ON tasks (customer_id, created_at, id);
CREATE INDEX tasks_of_assignee ON tasks (assignee_id, created_at, id);
CREATE INDEX tasks_changed ON tasks (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION touch();

-- ---------------------------------------------------------------------------------------------------------------------
-- Time

-- A running timer. One row per user, by the primary key: two running timers cannot exist. Its id becomes its entry's id.
CREATE TABLE timers (
    user_id uuid PRIMARY KEY REFERENCES users,
    id uuid NOT NULL UNIQUE,
    task_id uuid NOT NULL REFERENCES tasks,
    start_time timestamptz NOT NULL CHECK (start_time = date_trunc('second', start_time, 'UTC')),
    notes text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    changed_xid xid8 NOT NULL
);
CREATE INDEX timers_of_task ON timers (task_id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON timers FOR EACH ROW EXECUTE FUNCTION touch();

-- The last stop of each task by each user, so that a repeated stop gets the same answer until the task is started again.
CREATE TABLE stops (
    user_id uuid NOT NULL REFERENCES users,
    task_id uuid NOT NULL REFERENCES tasks,
    entry_id uuid NOT NULL,
    message_id uuid NOT NULL,      -- the StopTimer that carries it; ?wait follows this one
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL CHECK (end_time >= start_time),
    PRIMARY KEY (user_id, task_id)
);

-- One consultant's hours for one customer and pillar on one day, billed as a whole.
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
    stale boolean NOT NULL DEFAULT false,   -- an entry changed and the sum has not followed yet
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
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id),
    UNIQUE (id, user_id, customer_id, pillar_id, date),
    CHECK ((status = 'rejected') = (rejection_note IS NOT NULL)),
    -- promise 2: what was approved stays what was approved
    CONSTRAINT approved_is_frozen CHECK (
        status <> 'approved'
        OR (approved_at IS NOT NULL AND approved_by IS NOT NULL AND approved_seconds = seconds AND NOT stale AND deleted_at IS NULL))
);
-- One open bill per key: hours cannot be spread over two by a race. An approved one leaves the key free for late time.
CREATE UNIQUE INDEX time_bills_open ON time_bills (user_id, customer_id, pillar_id, date)
    WHERE status <> 'approved' AND deleted_at IS NULL;
CREATE INDEX time_bills_of_user ON time_bills (user_id, date, id);
CREATE INDEX time_bills_of_customer ON time_bills (customer_id, date, id);
CREATE INDEX time_bills_listed ON time_bills (date, id);
CREATE INDEX time_bills_unapproved ON time_bills (status, date, id) WHERE status <> 'approved' AND deleted_at IS NULL;
CREATE INDEX time_bills_stale ON time_bills (id) WHERE stale;
CREATE INDEX time_bills_changed ON time_bills (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON time_bills FOR EACH ROW EXECUTE FUNCTION touch();

-- One stretch of work. Raw figures: rounding never touches them.
CREATE TABLE time_entries (
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL REFERENCES tasks,
    user_id uuid NOT NULL REFERENCES users,
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid NOT NULL,
    start_time timestamptz NOT NULL CHECK (start_time = date_trunc('second', start_time, 'UTC')),
    end_time timestamptz NOT NULL CHECK (end_time = date_trunc('second', end_time, 'UTC')),
    duration bigint GENERATED ALWAYS AS (extract(epoch FROM end_time - start_time)::bigint) STORED,
    date date NOT NULL,            -- the start's day in the firm's time zone: the day it is billed on
    notes text NOT NULL DEFAULT '',
    flags text[] NOT NULL DEFAULT '{}',
    bill_id uuid,                  -- null only between an import and the recompute that follows it
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    CHECK (end_time >= start_time),
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id),
    -- promise 2: an entry is on one bill, and that bill is of the entry's own user, customer, pillar and day
    FOREIGN KEY (bill_id, user_id, customer_id, pillar_id, date)
        REFERENCES time_bills (id, user_id, customer_id, pillar_id, date)
);
CREATE INDEX time_entries_of_bill ON time_entries (bill_id) INCLUDE (duration);
CREATE INDEX time_entries_of_user ON time_entries (user_id, start_time, id);
CREATE INDEX time_entries_of_customer ON time_entries (customer_id, start_time, id);
CREATE INDEX time_entries_of_task ON time_entries (task_id, start_time, id);
CREATE INDEX time_entries_listed ON time_entries (start_time, id);
CREATE INDEX time_entries_changed ON time_entries (changed_xid);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON time_entries FOR EACH ROW EXECUTE FUNCTION touch();

-- ---------------------------------------------------------------------------------------------------------------------
-- The ledger: outbox, inbox, retry queue and dead-letter book in one

-- A promised piece of work, from the moment it is promised until it is done. RabbitMQ carries only (id, publication).
CREATE TABLE messages (
    id uuid PRIMARY KEY,
    actor text NOT NULL,
    queue text NOT NULL,
    body jsonb NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'sent', 'calling', 'done', 'dead', 'discarded')),
    publication integer NOT NULL DEFAULT 0,        -- how often it was handed to RabbitMQ; only the latest counts
    available_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,           -- never restarts; dead when it reaches the allowance
    allowance integer NOT NULL,
    crashes integer NOT NULL DEFAULT 0,            -- how often a worker died of it
    begun integer,                                 -- null: above suspicion; else the last publication noted as begun
    lease_token uuid,
    lease_until timestamptz,
    cause_id uuid,                                 -- the message whose handler put this one
    created_by uuid,                               -- the user whose request put it
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    sent_by bigint,                                -- the relay that claimed it, as the advisory lock which that one holds
    done_at timestamptz,
    error text,
    fingerprint text,                              -- groups letters that died of the same thing
    CHECK ((state = 'calling') = (lease_token IS NOT NULL)),
    CHECK ((state = 'calling') = (lease_until IS NOT NULL)),
    CHECK ((state = 'done') = (done_at IS NOT NULL)),
    CHECK (state <> 'sent' OR sent_at IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX messages_ready ON messages (queue, available_at, id) WHERE state = 'ready';
CREATE INDEX messages_sent ON messages (queue, sent_at) WHERE state = 'sent';
CREATE INDEX messages_calling ON messages (lease_until) WHERE state = 'calling';
CREATE INDEX messages_done ON messages (done_at) WHERE state = 'done';
CREATE INDEX messages_dead ON messages (created_at, id) WHERE state IN ('dead', 'discarded');
CREATE INDEX messages_cause ON messages (cause_id) WHERE cause_id IS NOT NULL;

-- One failed attempt. n counts on over replays.
CREATE TABLE message_attempts (
    message_id uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
    n integer NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    error_class text NOT NULL,
    error text NOT NULL,
    traceback text NOT NULL,
    worker text NOT NULL,
    PRIMARY KEY (message_id, n)
);

-- What a person did to a message, and why. Append-only.
CREATE TABLE message_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,
    action text NOT NULL CHECK (action IN ('replay', 'discard', 'restore', 'edit')),
    reason text NOT NULL
);
CREATE INDEX message_events_of_message ON message_events (message_id);

-- What came through RabbitMQ and is no message of ours, as it came. Never expires.
CREATE TABLE foreign_letters (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queue text NOT NULL,
    reason text NOT NULL,
    body bytea NOT NULL,
    headers text NOT NULL          -- as pika read them; text, since they may hold what no jsonb can
);
