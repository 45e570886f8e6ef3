"""Approving time bills in Slack: what is shown, what buttons do, the message of the day, and what a bill's owner reads."""
