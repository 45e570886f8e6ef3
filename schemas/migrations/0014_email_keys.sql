-- One rule for e-mail addresses that are compared: the key of an address.

-- =====================================================================================================================
-- identity: when two e-mail addresses are the same
-- =====================================================================================================================

-- The key of an address, equal for two that differ only in the case of A to Z. schemas/email_keys.py has the same rule in Python.
-- lower() without a collation depends on the database's locale, and makes the Kelvin sign a k.
CREATE FUNCTION email_key(email text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN lower(email COLLATE "C");

-- Both tables are small. The indexes on lower(email) stay for the processes of the version before.
CREATE INDEX users_email_key ON users (email_key(email));
CREATE INDEX slack_users_email_key ON slack_users (email_key(email));
