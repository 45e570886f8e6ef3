-- Starts a timer for a user whose row is locked, and who has none; without starts_at it starts now.
CREATE FUNCTION insert_timer(of_user uuid, new_id uuid, on_task uuid, with_notes text, starts_at timestamptz) RETURNS timers
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    timer timers;
BEGIN
    INSERT INTO timers AS t (user_id, id, task_id, notes, start_time)
    VALUES (of_user, new_id, on_task, with_notes, coalesce(starts_at, greatest(
        -- now() is when the transaction started, which may be before another one stopped a timer: never start before that stop
        date_trunc('second', now(), 'UTC'), (SELECT max(s.end_time) FROM stops s WHERE s.user_id = of_user))))
    RETURNING t.* INTO timer;
    DELETE FROM stops s WHERE s.user_id = of_user AND s.task_id = on_task;
    RETURN timer;
END $$;
