-- Starts the user's timer on that task, and stops the one that runs on another task. `outcome`: started; running, on that task
-- already; 'removed', if the user's access was revoked; 'no task'; or refused, because of the returned state of the task. The last
-- four have no effect. Each lock is had before the next statement looks.
CREATE FUNCTION start_timer(
    of_user uuid, on_task uuid, with_notes text, new_id uuid, max_attempts integer, cause_id uuid,
    OUT outcome text, OUT task_status text, OUT customer_is_active boolean, OUT timer timers, OUT stopped stops
) LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    is_removed boolean;
BEGIN
    SELECT u.revoked_at IS NOT NULL INTO is_removed FROM users u WHERE u.id = of_user FOR NO KEY UPDATE;
    IF is_removed THEN
        outcome := 'removed';
        RETURN;
    END IF;
    SELECT t.status, (SELECT c.active FROM customers c WHERE c.id = t.customer_id) INTO task_status, customer_is_active
    FROM tasks t WHERE t.id = on_task AND t.deleted_at IS NULL
    FOR SHARE;  -- a concurrent deletion of the task waits, and then finds the timer
    IF NOT FOUND THEN
        outcome := 'no task';
        RETURN;
    END IF;
    SELECT t.* INTO timer FROM timers t WHERE t.user_id = of_user;
    IF timer.task_id = on_task THEN
        outcome := 'running';
        RETURN;
    END IF;
    IF task_status = 'archived' OR NOT customer_is_active THEN
        outcome := 'refused';
        RETURN;
    END IF;
    IF timer.task_id IS NOT NULL THEN
        stopped := stop_running(of_user, timer.task_id, max_attempts, of_user, cause_id);
    END IF;
    timer := insert_timer(of_user, new_id, on_task, with_notes, NULL);
    outcome := 'started';
END $$;
