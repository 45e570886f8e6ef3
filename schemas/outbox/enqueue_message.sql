-- Writes a message, and wakes the relays at the end of the transaction (CHANNEL in schemas/outbox/outbox.py). Without
-- available_at it is handled as soon as possible; is_done: there is nothing to do.
CREATE FUNCTION enqueue_message(
    message_id uuid, actor text, queue text, body jsonb, max_attempts integer, created_by uuid, cause_id uuid,
    available_at timestamptz DEFAULT NULL, priority_seconds double precision DEFAULT 0, is_done boolean DEFAULT false
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messages (id, actor, queue, body, max_attempts, created_by, cause_id, available_at, state, done_at)
    VALUES (message_id, actor, queue, body, max_attempts, created_by, cause_id,
            coalesce(available_at, now() - make_interval(secs => priority_seconds)),
            CASE WHEN is_done THEN 'done' ELSE 'ready' END, CASE WHEN is_done THEN now() END);
    PERFORM pg_notify('stint_ready', '');
END $$;
