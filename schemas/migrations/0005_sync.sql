-- Two-way sync: what changed, in one answer; and what a client asked for while it was away, each once.

-- ---------------------------------------------------------------------------------------------------------------------
-- What changed

-- Whether an entry is locked is a matter of its bill, and no change of the entry: the transaction that last approved or reopened
-- the bill. Entries of such bills come anew; those of bills that only got another sum or memo need not.
ALTER TABLE time_bills ADD COLUMN locked_xid xid8;   -- null: never since there is this column

CREATE FUNCTION note_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.locked_xid := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER note_lock BEFORE UPDATE OF status ON time_bills FOR EACH ROW
    WHEN ((OLD.status = 'approved') <> (NEW.status = 'approved')) EXECUTE FUNCTION note_lock();
CREATE INDEX time_bills_relocked ON time_bills (user_id, locked_xid) WHERE locked_xid IS NOT NULL;

CREATE INDEX pillars_synced ON pillars (changed_xid, id);
-- a client keeps the hours of its own user
CREATE INDEX time_bills_of_user_synced ON time_bills (user_id, changed_xid, id);
CREATE INDEX time_entries_of_user_synced ON time_entries (user_id, changed_xid, id);
-- for clients that send a plain time instead of a cursor
CREATE INDEX pillars_updated ON pillars (updated_at, id);
CREATE INDEX time_bills_of_user_updated ON time_bills (user_id, updated_at, id);
CREATE INDEX time_entries_of_user_updated ON time_entries (user_id, updated_at, id);

-- ---------------------------------------------------------------------------------------------------------------------
-- What was asked for

-- What became of an operation that a client queued. Written in the transaction of its effect, so that none has a second one,
-- and a client that never got the answer can ask again. Kept for 90 days.
CREATE TABLE sync_operations (
    user_id uuid NOT NULL REFERENCES users,
    op_id uuid NOT NULL,           -- the client's
    fingerprint bytea NOT NULL,    -- of what was asked for: the same id with another body is a mistake
    answer json,                   -- null only within the transaction that works on it
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, op_id)   -- whoever comes second waits here for the first, and then finds its answer
);
CREATE INDEX sync_operations_old ON sync_operations (at);

-- ---------------------------------------------------------------------------------------------------------------------
-- Last, since it shuts out readers, too: entries are only ever synced by user

DROP INDEX time_entries_synced;
