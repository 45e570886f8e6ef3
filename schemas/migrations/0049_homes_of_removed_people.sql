-- The App Home of somebody who loses access shows nothing of the firm any more, however long ago it was opened.

-- =====================================================================================================================
-- slack: App Home
-- =====================================================================================================================

-- Each Home that shows something of its user is published again when the user's access changes: then it shows the refusal.
CREATE FUNCTION record_changed_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slack_homes SET is_stale = true WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER record_changed_access AFTER UPDATE OF revoked_at, role, customer_id ON users FOR EACH ROW
    WHEN ((OLD.revoked_at, OLD.role, OLD.customer_id) IS DISTINCT FROM (NEW.revoked_at, NEW.role, NEW.customer_id))
    EXECUTE FUNCTION record_changed_access();

COMMENT ON TABLE slack_homes IS
    'Somebody''s App Home in Slack. It is kept current for 30 days after it was opened, and is deleted then if Stint refuses them.';
