-- Locks the message of a delivery, and returns its body if the message can be handled at once. NULL, also with the lock, for all
-- that lock_for_delivery in actors/runtime/deliveries.py decides: another actor or queue, a duplicate, a message that is suspected
-- to be poison, and a body that does not have exactly the `fields`. The lock is had before the row is looked at.
CREATE FUNCTION lock_delivery(message_id uuid, number integer, of_actor text, of_queue text, fields text[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    message record;
BEGIN
    SELECT actor, queue, body, state, delivery_number, started_delivery INTO message
    FROM messages WHERE id = message_id FOR UPDATE;
    IF message.actor = of_actor AND message.queue = of_queue AND message.state = 'sent'
        AND message.delivery_number = number AND message.started_delivery IS NULL
        AND message.body ?& fields AND message.body - fields = '{}'
    THEN
        RETURN message.body;
    END IF;
    RETURN NULL;
END $$;
