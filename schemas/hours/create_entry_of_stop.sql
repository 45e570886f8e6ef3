-- Creates the time entry of a stopped timer on the open bill of its key, and recalculates that bill's sum. `stop`: the body of a
-- StopTimer message; `zone`: of the firm's days.
CREATE FUNCTION create_entry_of_stop(stop jsonb, zone text) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    user_id uuid := (stop->>'user_id')::uuid;
    task_id uuid := (stop->>'task_id')::uuid;
    start_time timestamptz := (stop->>'start_time')::timestamptz;
    day date := (start_time AT TIME ZONE zone)::date;
    task record;
    bill uuid;
BEGIN
    -- the entry may set the flags of other entries of this user
    PERFORM FROM users u WHERE u.id = user_id FOR NO KEY UPDATE;
    SELECT t.customer_id, t.pillar_id INTO task FROM tasks t WHERE t.id = task_id
    FOR SHARE;  -- a concurrent move of the task waits, and then moves this entry too
    bill := open_bill(user_id, task.customer_id, task.pillar_id, day);
    INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes, bill_id)
    VALUES ((stop->>'entry_id')::uuid, task_id, user_id, task.customer_id, task.pillar_id, start_time,
            (stop->>'end_time')::timestamptz, day, stop->>'notes', bill);
    PERFORM sum_bill(bill);
END $$;
