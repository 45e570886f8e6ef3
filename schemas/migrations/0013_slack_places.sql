-- A place in a channel is used once, and whoever did not get through takes another: null, when the one it had is used.
ALTER TABLE slack_posts ALTER due_at DROP NOT NULL;
UPDATE slack_posts SET due_at = NULL WHERE begun_at IS NOT NULL AND ts IS NULL;
