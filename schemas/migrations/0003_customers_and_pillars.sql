-- Customers and pillars that can be changed and deleted, and who is looking at which customer.

-- ---------------------------------------------------------------------------------------------------------------------
-- Customers

-- for clients that send a plain time instead of a cursor
CREATE INDEX customers_updated ON customers (updated_at, id);

-- Promise 3: who deletes a customer revokes its users in the same transaction, without a walk through everybody.
CREATE INDEX users_of_customer ON users (customer_id) WHERE customer_id IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------------------------
-- Pillars

ALTER TABLE pillars
    -- fingerprint of the body: a repeated create with the same one is the same create; null: came with its customer
    ADD COLUMN created_from bytea,
    ADD COLUMN slack_channel_id text,
    -- a task for which nobody names a pillar always has a place to go
    ADD CONSTRAINT default_is_active CHECK (active OR NOT is_default);
CREATE INDEX pillars_listed ON pillars (customer_id, created_at, id);

-- ---------------------------------------------------------------------------------------------------------------------
-- Focus

-- Which customer somebody is looking at. One row per user, by the primary key; it lapses by itself, and stays behind as what
-- the user looked at last, so that a focus that was cleared is a change like any other.
CREATE TABLE focus (
    user_id uuid PRIMARY KEY REFERENCES users,
    customer_id uuid NOT NULL REFERENCES customers,
    since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    changed_xid xid8 NOT NULL,
    CHECK (expires_at >= since)
);
-- a customer that is deleted is nobody's focus any more
CREATE INDEX focus_on_customer ON focus (customer_id);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON focus FOR EACH ROW EXECUTE FUNCTION touch();
