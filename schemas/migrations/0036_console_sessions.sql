-- Sessions of people who use the console, the pages of HTML at /console.

-- =====================================================================================================================
-- identity
-- =====================================================================================================================

CREATE TABLE console_sessions (
    token_hash bytea PRIMARY KEY,                          -- SHA-256 of the token in the cookie, which has 256 random bits
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- As the user's row was when the session began. Each request compares them, so a session is of no use that begins while
    -- another transaction changes its user.
    access_version integer NOT NULL,
    role text NOT NULL,
    customer_id uuid,                                      -- null: of the firm
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE console_sessions IS 'A session of a person in the console, from signing in until they sign out, at most 12 hours.';
CREATE INDEX console_sessions_of_user ON console_sessions (user_id);   -- for the trigger
CREATE INDEX console_sessions_expired ON console_sessions (expires_at);

-- Ends the sessions of a user who is removed, signed out, or given another role or customer, whichever statement does that.
CREATE FUNCTION end_console_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM console_sessions WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER end_console_sessions AFTER UPDATE ON users FOR EACH ROW
    WHEN ((OLD.role, OLD.customer_id, OLD.access_version) IS DISTINCT FROM (NEW.role, NEW.customer_id, NEW.access_version))
    EXECUTE FUNCTION end_console_sessions();
