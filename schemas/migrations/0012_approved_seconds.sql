-- An approved bill has its approved seconds: the CHECK also accepted null, since a comparison with null is not false. New rows are
-- checked from here on; 0013 checks those that exist, without this lock.
ALTER TABLE time_bills
    DROP CONSTRAINT approved_is_frozen,
    -- promise 2: what was approved stays as it was approved
    ADD CONSTRAINT approved_is_frozen CHECK (
        status <> 'approved'
        OR approved_at IS NOT NULL AND approved_by IS NOT NULL AND approved_seconds IS NOT NULL AND approved_seconds = seconds
            AND NOT stale AND deleted_at IS NULL) NOT VALID;
