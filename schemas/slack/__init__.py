"""Slack: its members, the form for a task, posts, and the client of the Web API."""
