-- Users of Xero are read again when Xero refuses one of them, page by page, and only a read of all pages removes users.
-- users_fetched_at becomes the time at which the last read of all pages began: a refusal after it is newer than what was read.

ALTER TABLE xero_tenants ADD COLUMN users_read_at timestamptz NOT NULL DEFAULT '-infinity';   -- when the current read began
ALTER TABLE xero_tenants ADD COLUMN users_pages integer NOT NULL DEFAULT 0;    -- pages that it has read; 0: no read is under way
ALTER TABLE xero_tenants ADD COLUMN users_total integer;                       -- users in all, as Xero said on the first page
ALTER TABLE xero_users ADD COLUMN read_at timestamptz NOT NULL DEFAULT '-infinity';   -- users_read_at of the last read with them
ALTER TABLE xero_entries ADD COLUMN user_refused_at timestamptz;   -- Xero refused a create, maybe for its user: read them again
