-- Admins get a mail about bills that wait until a person acts in Xero, at most one a day.
ALTER TABLE xero_tenants ADD waits_told_at timestamptz;   -- when the admins last got a mail about bills that wait for a person
