-- Handles a delivery of a StopTimer message in one call: its entry, on its bill, and the state `done`. False, with no effect, if
-- the message cannot be handled at once (lock_delivery).
CREATE FUNCTION handle_stop(message_id uuid, delivery_number integer, queue text, fields text[], zone text)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    stop jsonb := lock_delivery(message_id, delivery_number, 'stop_timer', queue, fields);
BEGIN
    IF stop IS NULL THEN
        RETURN false;
    END IF;
    PERFORM create_entry_of_stop(stop, zone);
    PERFORM complete_message(message_id);
    RETURN true;
END $$;
