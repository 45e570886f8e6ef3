-- Lists of dead letters by queue. A partial index: what lives and what is done costs nothing more to write. Alone in its
-- migration: nothing is promised while it is built, about a second for a million messages.
CREATE INDEX messages_of_queue_dead ON messages (queue, died_at, id) WHERE state = 'dead';
