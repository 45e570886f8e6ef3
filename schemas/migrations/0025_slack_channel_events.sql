-- What Slack's events have said about a mapped channel. Slack may send an older event after a newer one: it is ignored.
ALTER TABLE slack_channel_mappings
    ADD archived boolean NOT NULL DEFAULT false,   -- the channel is archived or deleted in Slack, or has another id there
    ADD archive_event_at timestamptz,              -- the time of the event that said so, or the opposite; null: none came
    ADD name_event_at timestamptz;                 -- the time of the last event that named the channel; null: none came
