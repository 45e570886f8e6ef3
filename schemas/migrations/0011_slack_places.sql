-- A place in a channel is used once, and whoever did not get through takes another: null, when the one it had is used.
ALTER TABLE slack_posts ALTER due_at DROP NOT NULL;
