-- How many attempts the last replay of a message granted. The waits between them start again at the shortest.
ALTER TABLE messages ADD COLUMN granted_attempts integer;   -- null: 5, or never replayed
