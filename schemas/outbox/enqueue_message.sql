-- Writes a message, and wakes the relays at the end of the transaction (CHANNEL), as `enqueue` in schemas/outbox/outbox.py: for
-- the functions that enqueue.
CREATE FUNCTION enqueue_message(
    message_id uuid, actor text, queue text, body jsonb, max_attempts integer, created_by uuid, cause_id uuid
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messages (id, actor, queue, body, max_attempts, created_by, cause_id)
    VALUES (message_id, actor, queue, body, max_attempts, created_by, cause_id);
    PERFORM pg_notify('stint_ready', '');
END $$;
