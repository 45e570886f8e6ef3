-- Stops the timer of a locked user on that task, and enqueues the message that creates its entry: `stop_running` in
-- schemas/hours/timer_stops.py explains the parameters. NULL when no such timer runs.
CREATE FUNCTION stop_running(
    of_user uuid, on_task uuid, max_attempts integer, stopped_by uuid, cause_id uuid,
    next_start timestamptz DEFAULT NULL, ended timestamptz DEFAULT NULL, new_notes text DEFAULT NULL
) RETURNS stops LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    timer timers;
    ends timestamptz;
    message uuid := gen_random_uuid();
    stop stops;
BEGIN
    DELETE FROM timers t WHERE t.user_id = of_user AND t.task_id = on_task RETURNING t.* INTO timer;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    ends := coalesce(ended, CASE WHEN next_start > timer.start_time THEN next_start
                                 ELSE greatest(date_trunc('second', now(), 'UTC'), timer.start_time) END);
    PERFORM enqueue_message(
        message, 'stop_timer', 'timers',
        jsonb_build_object(
            'entry_id', timer.id, 'user_id', of_user, 'task_id', on_task,
            'start_time', to_char(timer.start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'end_time', to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'notes', coalesce(new_notes, timer.notes)),
        max_attempts, stopped_by, cause_id);
    INSERT INTO stops AS s (user_id, task_id, entry_id, message_id, start_time, end_time)
    VALUES (of_user, on_task, timer.id, message, timer.start_time, ends)
    ON CONFLICT (user_id, task_id) DO UPDATE
    SET entry_id = excluded.entry_id, message_id = excluded.message_id,
        start_time = excluded.start_time, end_time = excluded.end_time
    RETURNING s.* INTO stop;
    RETURN stop;
END $$;
