-- The sync cursor across a crash, a failover and a restore of Postgres (docs/decisions/0023-sync-epochs.md).
--
-- A cursor counts transaction ids. They are only unique while one server runs: a crash, a failover and a restore give some of
-- them out again. So a cursor also names the epoch in which it was issued, and the position in the WAL up to which its reader can
-- have seen anything. All of this is promise 1 (nothing is lost).

-- =====================================================================================================================
-- postgres: what all tables share
-- =====================================================================================================================

CREATE TABLE sync_epochs (
    id bigint PRIMARY KEY,             -- random: two copies of a database never begin the same epoch
    number bigint GENERATED ALWAYS AS IDENTITY,   -- their order
    -- The WAL of this epoch that this database contains, at least. The relay writes it every two seconds, in a commit that is in
    -- the WAL itself: so a database that went back in time also went back to the position of that time.
    position pg_lsn NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),   -- when the position was written
    valid_below xid8,                  -- the first transaction after this epoch, null: it has not ended; 0: nothing of it is valid
    -- clients that send times instead of cursors: since when no write can have been lost; -infinity: there never was a loss
    unbroken_since timestamptz NOT NULL,
    written_by xid8 NOT NULL,          -- the transaction that wrote this row; another xmin means that a dump was restored
    began_at timestamptz NOT NULL,
    ended_at timestamptz               -- null: it has not ended
) WITH (fillfactor = 50);              -- free space in each page, for updates in place
COMMENT ON TABLE sync_epochs IS
    'An epoch: from a start, failover or restore of Postgres to the next one. Transaction ids are compared within an epoch.';
CREATE INDEX sync_epochs_number ON sync_epochs (number);

-- Postgres empties an unlogged table when it recovers from a crash, and a base backup or a standby contains no rows of it. So a
-- row here that this database has written since its server started means that no transaction id was given out twice.
CREATE UNLOGGED TABLE sync_epoch_marker (
    epoch_id bigint NOT NULL,
    server_started timestamptz NOT NULL,   -- pg_postmaster_start_time(): a copy of the files has another one
    database oid NOT NULL,                 -- CREATE DATABASE … TEMPLATE copies rows
    written_by xid8 NOT NULL               -- as in sync_epochs: a restored dump contains this row, but has not written it
);
COMMENT ON TABLE sync_epoch_marker IS
    'The epoch of the running server: one row. Unlogged, so that it disappears exactly when transaction ids can be repeated.';

-- The epoch of the running server; null: it has none yet. A standby is part of the epoch of its primary.
CREATE FUNCTION sync_epoch() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF pg_is_in_recovery() THEN        -- unlogged tables cannot be read here
        RETURN (SELECT id FROM sync_epochs ORDER BY number DESC LIMIT 1);
    END IF;
    RETURN (
        SELECT epoch_id FROM sync_epoch_marker
        WHERE xmin = written_by::xid AND server_started = pg_postmaster_start_time()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));
END $$;

-- As before, but rows of a restored dump can be corrected without looking changed: their changed_xid is another server's.
CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('stint.correcting_xids', true) = 'on' THEN
        RETURN NEW;
    END IF;
    NEW.changed_xid := pg_current_xact_id();
    NEW.updated_at := now();
    RETURN NEW;
END $$;
