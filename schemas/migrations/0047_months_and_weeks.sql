-- Outside of a transaction.
-- How many months and weeks the days of bills are in. Without it Postgres takes each day for one, sorts the bills of a report by two
-- levels instead of summing them, and needs twice as much CPU time.
CREATE STATISTICS IF NOT EXISTS time_bills_months ON (date_trunc('month', date::timestamp)::date) FROM time_bills;
CREATE STATISTICS IF NOT EXISTS time_bills_weeks ON (date_trunc('week', date::timestamp)::date) FROM time_bills;
ANALYZE time_bills;
