-- Lists of what was put away. Alone in its migration, as the one before.
CREATE INDEX messages_discarded ON messages (died_at, id) WHERE state = 'discarded';
