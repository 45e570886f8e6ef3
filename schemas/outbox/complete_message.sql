-- Marks a locked message done, in the transaction of its effect: as `complete` in schemas/outbox/outbox.py.
CREATE FUNCTION complete_message(message_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE messages SET state = 'done', done_at = clock_timestamp(), lease_token = NULL, lease_until = NULL, error = NULL
    WHERE id = message_id;
END $$;
