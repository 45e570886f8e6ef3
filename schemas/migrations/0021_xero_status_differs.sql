-- Every bill has one of the statuses of 0020.
ALTER TABLE time_bills VALIDATE CONSTRAINT time_bills_xero_status_check;
