-- Stops the user's timer on that task now. NULL, with no effect, when no such timer runs. The user is locked in a statement of its
-- own, so the next one sees what others have committed before the lock was had.
CREATE FUNCTION stop_timer(of_user uuid, on_task uuid, max_attempts integer, cause_id uuid) RETURNS stops
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM users u WHERE u.id = of_user FOR NO KEY UPDATE;
    RETURN stop_running(of_user, on_task, max_attempts, of_user, cause_id);
END $$;
