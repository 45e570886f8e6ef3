-- =====================================================================================================================
-- slack: App Home
-- =====================================================================================================================

-- Who has opened the app's Home tab in Slack, and what Slack shows there. One PublishHome message at a time makes a call for it,
-- and at most one more waits.
CREATE TABLE slack_homes (
    slack_id text PRIMARY KEY,
    user_id uuid REFERENCES users,            -- null: Stint does not know the person, or refuses them
    is_admin boolean NOT NULL DEFAULT false,  -- whether time bills to approve are shown
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_id uuid,                          -- the last PublishHome message that was enqueued; null: none yet
    running_id uuid,                          -- the last one that made a call
    content_hash bytea,                       -- of the view that Slack shows; null: not known, or to be shown again
    view_hash text,                           -- Slack's own, with which it refuses a publish by a worker that was frozen
    is_stale boolean NOT NULL DEFAULT false,  -- something of it has changed that its rows do not tell
    note text NOT NULL DEFAULT '',            -- the result of the last press, in mrkdwn
    noted_at timestamptz
);
CREATE INDEX slack_homes_of_user ON slack_homes (user_id) WHERE user_id IS NOT NULL;
COMMENT ON TABLE slack_homes IS
    'Somebody''s App Home in Slack. It is kept current for 30 days after it was opened, and then deleted.';

-- A task that somebody has no more does not name them. Without a Home, this is one look into an index.
CREATE FUNCTION record_lost_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- also if it is stale already: then this waits for a publish that has just read the task, and marks the Home again
    UPDATE slack_homes SET is_stale = true WHERE user_id = coalesce(OLD.assignee_id, OLD.created_by);
    RETURN NULL;
END $$;
CREATE TRIGGER record_lost_task AFTER UPDATE OF assignee_id ON tasks FOR EACH ROW
    WHEN (OLD.assignee_id IS DISTINCT FROM NEW.assignee_id) EXECUTE FUNCTION record_lost_task();

CREATE FUNCTION record_changed_working_hours() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slack_homes SET is_stale = true WHERE user_id = NEW.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER record_changed_working_hours AFTER INSERT OR UPDATE ON working_hours FOR EACH ROW
    EXECUTE FUNCTION record_changed_working_hours();
