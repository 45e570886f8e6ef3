"""Comparing approved bills with the time entries in Xero, as they were last read there."""
