"""Xero: its connection, limits, and one time entry for each approved bill."""
