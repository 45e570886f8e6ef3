"""Slack's requests, answered within three seconds."""
