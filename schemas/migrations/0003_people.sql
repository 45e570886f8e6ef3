-- Access and sessions of users: which statement about a user is the latest, and which tokens are too old.

-- =====================================================================================================================
-- identity
-- =====================================================================================================================

-- No column is rewritten: each is null or has a constant default. Processes of the version before keep working: the trigger
-- below counts their changes, too.
ALTER TABLE users
    -- When the provider or a command stated role, customer, address and name: the `iat` of a token, or the time of a command or
    -- of a reading of the user pool. An older token does not change them. Null: not known; updated_at counts.
    ADD COLUMN claims_at timestamptz,
    -- Promise 3: a token of the local provider names the value that it was issued under; with any other value it is refused.
    -- A counter and not a time: the times in tokens are whole seconds.
    ADD COLUMN access_version integer NOT NULL DEFAULT 0,
    ADD COLUMN sessions_after timestamptz,   -- tokens of sessions that began until then are refused: removed, or signed out
    ADD COLUMN access_since timestamptz,     -- since when the user belongs to the firm, or to this customer; tokens that were
                                             -- issued before are refused. Null: always
    ADD COLUMN disabled_in_pool boolean NOT NULL DEFAULT false;   -- revoked because the user pool disabled or deleted them

-- Who the user belongs to: 'firm', a customer's id, or 'nobody'.
CREATE FUNCTION access_of(role text, customer_id uuid) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN starts_with(role, 'internal_') OR role IS NULL AND customer_id IS NULL THEN 'firm'
        WHEN role IN ('customer_admin', 'customer_user') AND customer_id IS NOT NULL THEN customer_id::text
        ELSE 'nobody' END
$$;

-- Ends a user's sessions, and makes codes to sign in with useless, whenever their access changes, whichever statement changes it: removed, added again, given to the firm
-- or to another customer.
CREATE FUNCTION end_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL THEN
        NEW.sessions_after := greatest(NEW.sessions_after, clock_timestamp());
        NEW.access_version := OLD.access_version + 1;
    ELSIF NEW.revoked_at IS NULL AND OLD.revoked_at IS NOT NULL THEN
        NEW.sessions_after := greatest(NEW.sessions_after, OLD.revoked_at);
        NEW.access_version := OLD.access_version + 1;
    END IF;
    IF access_of(NEW.role, NEW.customer_id) <> access_of(OLD.role, OLD.customer_id) THEN
        NEW.access_since := CASE WHEN NEW.claims_at IS DISTINCT FROM OLD.claims_at THEN NEW.claims_at
                                 ELSE clock_timestamp() END;
        NEW.access_version := OLD.access_version + 1;
    END IF;
    IF NEW.access_version <> OLD.access_version THEN
        DELETE FROM sign_in_codes WHERE user_id = NEW.id;   -- a code of before would begin a session of after
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER end_sessions BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION end_sessions();

-- A code counts wrong tries apart: `tries` for those with its id, and these two. So nobody elsewhere can use up a code.
ALTER TABLE sign_in_codes
    ADD COLUMN client text,                                                        -- the network of the client that asked for it
    ADD COLUMN client_tries smallint NOT NULL DEFAULT 0 CHECK (client_tries BETWEEN 0 AND 5),      -- from that network
    ADD COLUMN tries_elsewhere smallint NOT NULL DEFAULT 0 CHECK (tries_elsewhere BETWEEN 0 AND 3);

CREATE TABLE user_pool_readings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),   -- there is exactly one row
    message_id uuid,                 -- the message that reads the pool, again and again; null: none yet
    read_at timestamptz,             -- when the last complete reading began; null: none yet
    error text                       -- why the pool could not be read since; null: it could
);
COMMENT ON TABLE user_pool_readings IS
    'The last reading of the user pool (IDENTITY=cognito): one row. A user who is disabled or deleted there loses access.';
INSERT INTO user_pool_readings DEFAULT VALUES;

-- =====================================================================================================================
-- outbox: heartbeats
-- =====================================================================================================================

-- API processes have heartbeats, too, and each heartbeat says how far the clock of its process is ahead of Postgres's. The table
-- has one row for each process, so the new check takes no time.
ALTER TABLE heartbeats
    ADD COLUMN clock_seconds double precision,   -- null: a process of version 0.2.0
    DROP CONSTRAINT heartbeats_kind_check,
    ADD CONSTRAINT heartbeats_kind_check CHECK (kind IN ('api', 'relay', 'work'));
