-- Outside of a transaction.
-- The list and the number of bills that differ from their entries in Xero.
CREATE INDEX CONCURRENTLY IF NOT EXISTS time_bills_that_differ ON time_bills (date, id) WHERE xero_status = 'differs';
