"""The channels that Slack lists now, for people to choose from."""
