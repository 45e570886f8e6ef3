-- The open bill of a consultant, customer, pillar and day, locked; created if there is none. A rejected one is pending again,
-- because of the late time. Mostly there is one: a lock costs a third of an INSERT with ON CONFLICT, which would write the bill
-- again.
CREATE FUNCTION open_bill(of_user uuid, of_customer uuid, of_pillar uuid, of_day date) RETURNS uuid
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    bill uuid;
BEGIN
    SELECT b.id INTO bill FROM time_bills b
    WHERE b.user_id = of_user AND b.customer_id = of_customer AND b.pillar_id = of_pillar AND b.date = of_day
        AND b.status = 'pending' AND b.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF bill IS NULL THEN
        INSERT INTO time_bills AS b (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
        SELECT of_user, c.id, of_pillar, of_day, c.rounding_increment, c.rounding_mode
        FROM customers c WHERE c.id = of_customer
        ON CONFLICT (user_id, customer_id, pillar_id, date) WHERE status <> 'approved' AND deleted_at IS NULL
        DO UPDATE SET status = 'pending', rejection_note = NULL, version = b.version + (b.status = 'rejected')::int
        RETURNING b.id INTO bill;
    END IF;
    RETURN bill;
END $$;
