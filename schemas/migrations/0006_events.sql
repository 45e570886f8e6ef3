-- Live events: what the four kinds of change leave behind, so that it can be read after the commit, and who is woken by it.

-- ---------------------------------------------------------------------------------------------------------------------
-- What is gone leaves no row to read

-- A user's last timer that was stopped or discarded: its row is deleted, and there must be a change to see.
CREATE TABLE timer_ends (
    user_id uuid PRIMARY KEY REFERENCES users,
    changed_xid xid8 NOT NULL      -- without an index, so that it is updated in place: there is one row a user
) WITH (fillfactor = 50);
CREATE FUNCTION note_timer_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timer_ends (user_id, changed_xid) VALUES (OLD.user_id, pg_current_xact_id())
    ON CONFLICT (user_id) DO UPDATE SET changed_xid = excluded.changed_xid;
    RETURN NULL;
END $$;
CREATE TRIGGER note_end AFTER DELETE ON timers FOR EACH ROW EXECUTE FUNCTION note_timer_end();

-- A bill that was reopened: for its customer's users it is gone, and their clients must hear of it; of what becomes of the
-- draft afterwards, they must not.
CREATE TABLE bill_reopenings (
    bill_id uuid PRIMARY KEY REFERENCES time_bills,
    customer_id uuid NOT NULL REFERENCES customers,
    changed_xid xid8 NOT NULL
);
CREATE INDEX bill_reopenings_changed ON bill_reopenings (changed_xid);
CREATE FUNCTION note_reopening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bill_reopenings (bill_id, customer_id, changed_xid) VALUES (NEW.id, NEW.customer_id, pg_current_xact_id())
    ON CONFLICT (bill_id) DO UPDATE SET changed_xid = excluded.changed_xid;
    RETURN NULL;
END $$;
CREATE TRIGGER note_reopening AFTER UPDATE OF status ON time_bills FOR EACH ROW
    WHEN (OLD.status = 'approved' AND NEW.status <> 'approved') EXECUTE FUNCTION note_reopening();

-- ---------------------------------------------------------------------------------------------------------------------
-- What changed since a snapshot is read by these, in the order in which it changed

CREATE INDEX task_moves_changed ON task_moves (changed_xid);
-- promise 3: whose access was removed is found while they listen
CREATE INDEX users_changed ON users (changed_xid);

-- ---------------------------------------------------------------------------------------------------------------------
-- One empty notification a transaction, however many rows it changed: commits that notify wait for each other, so it is cheap.
-- Not for users: that somebody's access was removed, the listeners' poll finds out soon enough.

CREATE FUNCTION notify_listeners() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stint_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON timers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON time_bills
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
CREATE TRIGGER notify_listeners AFTER INSERT OR UPDATE OR DELETE ON focus
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listeners();
