"""Calls that Slack refuses to the app: recorded, told to admins, waited for, and tried again."""
