-- Stint approves no bill without its seconds; a row that was written by hand gets those that it has.
UPDATE time_bills SET approved_seconds = seconds WHERE status = 'approved' AND approved_seconds IS NULL;
ALTER TABLE time_bills VALIDATE CONSTRAINT approved_is_frozen;
