-- Times in Slack are shown in the time zone of the person who reads them.
ALTER TABLE slack_users ADD COLUMN tz text;   -- the name of the person's time zone; null: Slack has not said one that is known
