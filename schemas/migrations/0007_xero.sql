-- Xero: the connection, what is known of each bill's entry there, and limits that all workers share.

-- ---------------------------------------------------------------------------------------------------------------------
-- The connection

-- The one Xero organisation that the firm is connected to. The row is always there, so that it can be locked; without an
-- organisation nobody is connected. FOR UPDATE: connects or disconnects; FOR NO KEY UPDATE: renews the tokens, one at a time;
-- FOR KEY SHARE: relies on the organisation staying the same until the transaction ends.
CREATE TABLE xero_connection (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    one boolean NOT NULL DEFAULT true UNIQUE CHECK (one),
    tenant_id text,                -- null: not connected
    tenant_name text,
    connection_id text,            -- what Xero calls the bond between that organisation and this app
    access_token text,             -- sealed under SECRET_KEY, as is the next; the row's id is part of the seal
    refresh_token text,            -- good for 60 days, and replaced each time it is used
    expires_at timestamptz,        -- of the access token
    connected_at timestamptz,
    connected_by uuid REFERENCES users,
    needs_reconnect_at timestamptz,   -- since when Xero no longer takes the refresh token; admins were told then
    check_message_id uuid,         -- the message that looks next for what was invoiced: there is one such chain
    CHECK ((tenant_id IS NULL) = (connection_id IS NULL)),
    CHECK (tenant_id IS NULL OR access_token IS NOT NULL AND refresh_token IS NOT NULL AND expires_at IS NOT NULL)
);
INSERT INTO xero_connection DEFAULT VALUES;

-- Where somebody has gone to Xero and is expected back. Only a hash of the state is kept; it works once.
CREATE TABLE xero_states (
    state_hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL
);
CREATE INDEX xero_states_expired ON xero_states (expires_at);

-- People who may be named on time in Xero, as last read there: users are found by their address.
CREATE TABLE xero_users (
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    email text NOT NULL,           -- in lower case
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX xero_users_email ON xero_users (tenant_id, email);

-- ---------------------------------------------------------------------------------------------------------------------
-- Bills

ALTER TABLE time_bills ADD COLUMN xero_invoiced_at timestamptz;   -- when its entry was first seen locked or invoiced in Xero

-- What is known of a bill's time entry in Xero. There is a row before the first call goes out for the bill, and it stays: its
-- revision must never be used twice.
CREATE TABLE xero_entries (
    bill_id uuid PRIMARY KEY REFERENCES time_bills,
    withdrawing boolean NOT NULL DEFAULT false,   -- an admin reopened the bill: the entry has to go first
    tenant_id text,                -- where its entry is, or may be
    project_id text,
    entry_ids text[] NOT NULL DEFAULT '{}',       -- what is there: one at most, unless somebody copied it by hand
    revision integer NOT NULL DEFAULT 0,          -- with the bill's id the Idempotency-Key of the last creation
    written jsonb,                 -- what was last sent, or seen there
    attempted_at timestamptz,      -- a creation went out then, and whether it arrived is not known
    unsure boolean NOT NULL DEFAULT false,        -- look for it before anything else
    looked_pages integer NOT NULL DEFAULT 0,      -- of the list in which it is looked for
    entry_status text,             -- of the entry that stays: ACTIVE, LOCKED or INVOICED, as last seen
    refused boolean NOT NULL DEFAULT false,       -- Xero would not change or delete the entry: read first why
    note text,                     -- why a reopening came to nothing
    held_by uuid,                  -- the message that calls for this bill, while that one is `calling`
    turn_at timestamptz,           -- in line for a place among the limits, until then
    checked_at timestamptz,        -- when it was last known not to be invoiced
    CHECK (NOT unsure OR attempted_at IS NOT NULL),
    CHECK (attempted_at IS NULL OR written IS NOT NULL AND project_id IS NOT NULL)
);
-- the project whose entries have waited longest for a look at what was invoiced
CREATE INDEX xero_entries_unchecked ON xero_entries (checked_at) WHERE checked_at IS NOT NULL;

-- approved bills that wait for something to be mended are queued when it is
CREATE INDEX time_bills_waiting_for_xero ON time_bills (xero_status, customer_id, id)
    WHERE xero_status IN ('queued', 'failed', 'not_connected', 'not_mapped', 'withdrawing');
CREATE INDEX time_bills_synced_to_xero ON time_bills (xero_synced_at) WHERE xero_synced_at IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------------------------
-- Limits

-- What all who call one organisation share. Whoever wants to call locks the row.
CREATE TABLE xero_tenants (
    tenant_id text PRIMARY KEY,
    paused_until timestamptz NOT NULL DEFAULT '-infinity',   -- Xero said when to come back
    booked_until timestamptz NOT NULL DEFAULT '-infinity',   -- the last turn that was given out to who waits in line
    users_asked_at timestamptz NOT NULL DEFAULT '-infinity', -- when somebody set out to read its people
    users_read_at timestamptz NOT NULL DEFAULT '-infinity'   -- when they were read
) WITH (fillfactor = 50);

-- A call that was let in. It may reach Xero at any time until it ends, so it counts until its end, and one period more.
CREATE TABLE xero_calls (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL,
    over boolean NOT NULL DEFAULT false,
    until timestamptz NOT NULL     -- its end; as long as it is not over, the latest that it can be
) WITH (fillfactor = 70);
CREATE INDEX xero_calls_until ON xero_calls (tenant_id, until);
CREATE INDEX xero_calls_open ON xero_calls (tenant_id) WHERE NOT over;
