-- People and mail: invitations, signing in, leads, and limits that hold across processes.

-- ---------------------------------------------------------------------------------------------------------------------
-- People

ALTER TABLE users
    ADD COLUMN invited_at timestamptz,                      -- null: nobody invited them
    ADD COLUMN joined_at timestamptz,                       -- their first request; who was invited and lacks it has not come yet
    ADD COLUMN account text,                                -- what the identity provider calls them; null: as we do
    -- promise 3: an invitation to an address that another account has. It looks like any other to whoever invited, and nobody
    -- can ever sign in as it
    ADD COLUMN elsewhere boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT nobody_comes_from_elsewhere CHECK (NOT elsewhere OR joined_at IS NULL AND invited_at IS NOT NULL);
UPDATE users SET joined_at = created_at;

-- Codes that were sent to sign in with. Only a keyed hash is kept; one that was used is deleted.
CREATE TABLE sign_in_codes (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    code_hash bytea NOT NULL,
    tries smallint NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_codes_of_user ON sign_in_codes (user_id);
CREATE INDEX sign_in_codes_expired ON sign_in_codes (expires_at);

-- ---------------------------------------------------------------------------------------------------------------------
-- Leads: what came in through the contact form

CREATE TABLE leads (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    email text NOT NULL,
    company text,
    phone text,
    message text,
    extra jsonb NOT NULL,          -- fields that the form has and we do not know
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX leads_listed ON leads (created_at, id);

-- ---------------------------------------------------------------------------------------------------------------------
-- Limits

-- How much of an allowance is used up, as the time at which it will be whole again. A row whose time has passed says nothing.
CREATE TABLE rate_limits (
    key text PRIMARY KEY,          -- which limit, and for whom
    whole_at timestamptz NOT NULL
) WITH (fillfactor = 50);          -- room for updates in place
CREATE INDEX rate_limits_whole ON rate_limits (whole_at);
