-- What Stint knows about its access to the connected Xero organisation: whether Xero still gives it, and if not, since when, why, and
-- when Stint tries again. What the status of the connection shows of calls and pauses.

-- =====================================================================================================================
-- xero: access that Xero refuses, and what the status of the connection shows
-- =====================================================================================================================

-- Not in 0015, which locks the table: this reads all messages.
UPDATE xero_entries e SET delete_attempted_at = clock_timestamp()
WHERE withdrawing AND entry_ids <> '{}' AND EXISTS (
    SELECT FROM messages m WHERE m.actor = 'sync_bill' AND m.state <> 'done' AND m.body->>'bill_id' = e.bill_id::text);

-- needs_reconnect_at is when access was lost, for whatever reason. (Null in access_problem: a process of the version before wrote it,
-- because Xero did not accept the refresh token.)
ALTER TABLE xero_connection
    ADD access_problem text,                -- why access was lost
    ADD access_suspected_at timestamptz,    -- Xero refused a call: no other starts until it is known whether access is lost
    ADD access_found_at timestamptz,        -- when a check last found that Stint has access; null since it was connected
    ADD access_check_at timestamptz,        -- when access is checked next, while it is suspected or lost; null: only a person can help
    ADD access_check_id uuid;               -- the message that checks it: there is one at a time

ALTER TABLE xero_tenants ADD pause_reason text;   -- which limit paused_until is for: minute, day, concurrent or appminute

ALTER TABLE xero_calls ADD succeeded boolean NOT NULL DEFAULT false;
