-- A Postgres that was restored to an earlier moment ends all sessions (docs/decisions/0049-sessions-after-a-restore.md).

-- =====================================================================================================================
-- postgres: what all tables share
-- =====================================================================================================================

ALTER TABLE sync_epochs
    ADD COLUMN timeline integer,           -- of the WAL; null: not known, written by the version before
    ADD COLUMN recovery_target text,       -- up to where the server was told to replay the WAL when it started; '' : to its end
    ADD COLUMN restored_to timestamptz;    -- this epoch began with a restore to that moment, at most two seconds earlier than it

-- =====================================================================================================================
-- identity
-- =====================================================================================================================

-- Promise 3: after this, no session, token, code, link or signing key of before is accepted, whatever has happened to it in the
-- time that is lost. So the version of the access grows by more than it can have grown then. The minute is for the clock of a
-- user pool.
CREATE FUNCTION end_all_sessions() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users u SET access_version = u.access_version + 1000,
        sessions_after = greatest(u.sessions_after, clock_timestamp() + interval '1 minute')
    FROM (SELECT id FROM users ORDER BY id FOR NO KEY UPDATE) locked WHERE u.id = locked.id;
    DELETE FROM signing_keys;   -- one of them may have been distrusted since; the next token makes a new one
    DELETE FROM sign_in_codes;
    DELETE FROM sign_in_links;
    DELETE FROM console_sessions;
END $$;

CREATE FUNCTION end_sessions_of_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM end_all_sessions();
    RETURN NULL;
END $$;
CREATE TRIGGER end_sessions_of_before AFTER INSERT ON sync_epochs FOR EACH ROW
    WHEN (NEW.restored_to IS NOT NULL) EXECUTE FUNCTION end_sessions_of_before();
