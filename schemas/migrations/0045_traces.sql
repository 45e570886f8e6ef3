-- Which trace of OpenTelemetry a message belongs to, so that the worker continues the trace of the request.
ALTER TABLE messages ADD COLUMN traceparent text;   -- W3C's; null: no trace

-- A process that traces sets it for its session (schemas/postgres/connection.py), so that each statement and function that
-- writes a message stores it.
ALTER TABLE messages ALTER COLUMN traceparent SET DEFAULT nullif(current_setting('stint.traceparent', true), '');
