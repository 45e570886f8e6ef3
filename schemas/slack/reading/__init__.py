"""The text of messages as a person sees it in Slack."""
