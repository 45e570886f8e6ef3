-- Slack: which channel is whose, who is who there, what came in and what went out.

-- ---------------------------------------------------------------------------------------------------------------------
-- Channels

-- The one customer that a channel belongs to: what the form presets, and all that Stint shows there.
CREATE TABLE slack_channel_mappings (
    id uuid PRIMARY KEY,
    channel_id text NOT NULL,
    channel_name text NOT NULL,
    customer_id uuid NOT NULL REFERENCES customers,
    pillar_id uuid,
    created_from bytea NOT NULL,   -- fingerprint of the body: a repeated create with the same one is the same create
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    changed_xid xid8 NOT NULL,
    -- promise 3: a preset pillar is one of the preset customer's
    FOREIGN KEY (pillar_id, customer_id) REFERENCES pillars (id, customer_id)
);
-- promise 3: a channel is never two customers'
CREATE UNIQUE INDEX slack_channel_mappings_channel ON slack_channel_mappings (channel_id) WHERE deleted_at IS NULL;
CREATE INDEX slack_channel_mappings_listed ON slack_channel_mappings (created_at, id);
-- who deletes a customer or a pillar looks for its channels
CREATE INDEX slack_channel_mappings_of_customer ON slack_channel_mappings (customer_id) WHERE deleted_at IS NULL;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON slack_channel_mappings FOR EACH ROW EXECUTE FUNCTION touch();

-- ---------------------------------------------------------------------------------------------------------------------
-- People

-- What users.info said, kept for a while so that commands do not wait for Slack. Whether this person may use Stint does not
-- stand here: that is looked up in users, by the address, each time.
CREATE TABLE slack_users (
    slack_id text PRIMARY KEY,
    email text NOT NULL,           -- empty: Slack shows none
    refusal text CHECK (refusal IN ('bot', 'deleted', 'foreign')),   -- null: a person of our workspace
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- a nudge goes from a user to whoever that is in Slack
CREATE INDEX slack_users_email ON slack_users (lower(email));

-- ---------------------------------------------------------------------------------------------------------------------
-- In and out

-- What was received and had its effect, kept for 48 hours: Slack repeats what it believes lost.
CREATE TABLE slack_receipts (
    key text PRIMARY KEY,          -- event:…, view:… or trigger:…, as Slack calls it
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX slack_receipts_at ON slack_receipts (at);

-- What is posted, by the message that carries it: when its turn in the channel comes, and what became of it.
CREATE TABLE slack_posts (
    message_id uuid PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    channel_id text NOT NULL,
    due_at timestamptz NOT NULL,   -- its place among all that goes to this channel
    begun_at timestamptz,          -- not null without ts: a call whose outcome is not known
    ts text                        -- Slack's name of the posted message
);

-- Bot tokens that Slack told us are of no use any more, each by its hash: nothing is posted with one. A new token is another.
CREATE TABLE slack_removals (
    token_hash bytea PRIMARY KEY,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- One's own tasks are also those that one created and that are nobody's.
CREATE INDEX tasks_unassigned ON tasks (created_by, created_at, id) WHERE assignee_id IS NULL AND deleted_at IS NULL;
