-- The rest of the hours: what lists, sync, entries made by hand and recompute need.

-- ---------------------------------------------------------------------------------------------------------------------
-- Sync: what changed since a cursor is read in the order in which it changed

CREATE INDEX customers_synced ON customers (changed_xid, id);
CREATE INDEX tasks_synced ON tasks (changed_xid, id);
CREATE INDEX time_bills_synced ON time_bills (changed_xid, id);
CREATE INDEX time_entries_synced ON time_entries (changed_xid, id);
-- for clients that send a plain time instead of a cursor
CREATE INDEX tasks_updated ON tasks (updated_at, id);

CREATE INDEX users_listed ON users (created_at, id);

-- A customer that a task has left: for that customer's users it is gone, and their clients must hear of it.
CREATE TABLE task_moves (
    task_id uuid NOT NULL REFERENCES tasks,
    customer_id uuid NOT NULL REFERENCES customers,
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL,
    PRIMARY KEY (task_id, customer_id)
);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON task_moves FOR EACH ROW EXECUTE FUNCTION touch();

-- ---------------------------------------------------------------------------------------------------------------------
-- Time entries

-- Fingerprint of the body of an entry made by hand: a repeated create with the same one is the same create.
ALTER TABLE time_entries ADD COLUMN created_from bytea;

-- A bill's sum is read from the index alone.
CREATE INDEX time_entries_summed ON time_entries (bill_id) INCLUDE (duration) WHERE deleted_at IS NULL;
-- Imported and not on a bill yet: recompute takes these, one person's day after another.
CREATE INDEX time_entries_unbilled ON time_entries (user_id, date, id) WHERE bill_id IS NULL AND deleted_at IS NULL;
-- Longer than an entry by hand may be (31 days): the few that begin before the days an overlap is looked for in.
CREATE INDEX time_entries_very_long ON time_entries (user_id) WHERE duration > 2678400 AND deleted_at IS NULL;

-- ---------------------------------------------------------------------------------------------------------------------
-- Recompute

-- The newest bills are not approved yet: who lists approved ones must not walk through weeks of others.
CREATE INDEX time_bills_approved ON time_bills (date, id) WHERE status = 'approved' AND deleted_at IS NULL;

-- Open bills are compared with their entries from two indexes, in the same order, without a look at either table.
CREATE INDEX time_bills_sums ON time_bills (id) INCLUDE (seconds, stale, user_id, customer_id, pillar_id, date)
    WHERE status <> 'approved' AND deleted_at IS NULL;

-- A run over all bills, or some: entries without a bill are given one, and sums that differ are corrected. It goes on chunk by
-- chunk, each in a message of its own, and survives whatever is killed in between.
CREATE TABLE recompute_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    start_date date,
    end_date date,
    customer_id uuid,
    user_id uuid,
    dry_run boolean NOT NULL,
    total bigint,                  -- entries without a bill and open bills, as counted when it began; null: not begun
    done bigint NOT NULL DEFAULT 0,
    message_id uuid,               -- the message that carries the next chunk: if that one is dead, so is the job
    created_by uuid REFERENCES users,   -- null: from the terminal
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX recompute_jobs_finished ON recompute_jobs (finished_at);

-- What a job changed, or in a dry run would change: one row per bill.
CREATE TABLE recompute_changes (
    job_id uuid NOT NULL REFERENCES recompute_jobs ON DELETE CASCADE,
    n bigint GENERATED ALWAYS AS IDENTITY,
    bill_id uuid,                  -- null in a dry run for a bill that would be made
    user_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    pillar_id uuid NOT NULL,
    date date NOT NULL,
    seconds_before bigint,         -- null: there was no such bill
    seconds_after bigint NOT NULL,
    entries_added bigint NOT NULL,
    PRIMARY KEY (job_id, n)
);
CREATE UNIQUE INDEX recompute_changes_of_bill ON recompute_changes (job_id, bill_id);

-- ---------------------------------------------------------------------------------------------------------------------
-- Last, since it shuts out readers, too: what the new indexes replace

DROP INDEX customers_changed, tasks_changed, time_bills_changed, time_entries_changed, time_entries_of_bill;
