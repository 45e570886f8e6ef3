-- Handles several deliveries of StopTimer messages in one call, each as handle_stop does, and returns the ids of those that it has
-- handled. One that cannot be handled, or whose row is locked by another transaction for longer than lock_timeout, has no effect
-- here, and the others have theirs. Users are locked in the order of their ids, so that two calls do not wait for each other. After
-- the first wait in vain no other lock is waited for, because the locks of the rows that are handled are kept meanwhile.
CREATE FUNCTION handle_stops(ids uuid[], numbers integer[], queue text, fields text[], zone text) RETURNS uuid[]
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET lock_timeout = '100ms' AS $$
DECLARE
    delivery record;
    handled uuid[] := '{}';
BEGIN
    FOR delivery IN
        SELECT d.id, d.number FROM unnest(ids, numbers) AS d (id, number) JOIN messages m ON m.id = d.id
        ORDER BY m.body->>'user_id', d.id
    LOOP
        BEGIN
            IF handle_stop(delivery.id, delivery.number, queue, fields, zone) THEN
                handled := handled || delivery.id;
            END IF;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                SET LOCAL lock_timeout = '1ms';
            WHEN OTHERS THEN
                NULL;  -- alone, it gets the same error, which is recorded then
        END;
    END LOOP;
    RETURN handled;
END $$;
