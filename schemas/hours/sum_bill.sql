-- Recalculates the sum of a locked, open bill from its entries, as `recalculate` in schemas/hours/bill_sums.py does for many: a
-- change here is one there. One row if it was
-- written, because the sum differs or was stale; a bill without entries becomes a tombstone. The caller has locked the bill in an
-- earlier statement.
CREATE FUNCTION sum_bill(of_bill uuid) RETURNS TABLE (bill_id uuid, before bigint, after bigint, removed boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    UPDATE time_bills b
    SET seconds = s.seconds, stale = false, deleted_at = CASE WHEN s.removed THEN now() END,
        version = b.version + (b.seconds <> s.seconds OR s.removed)::int
    FROM (SELECT bill.seconds AS before, coalesce(sum(e.duration), 0)::bigint AS seconds, count(e.bill_id) = 0 AS removed
          FROM time_bills bill LEFT JOIN time_entries e ON e.bill_id = bill.id AND e.deleted_at IS NULL
          WHERE bill.id = of_bill GROUP BY bill.id) s
    WHERE b.id = of_bill AND b.status <> 'approved' AND b.deleted_at IS NULL
        AND (b.stale OR b.seconds <> s.seconds OR s.removed)
    RETURNING b.id, s.before, s.seconds, s.removed;
END $$;
