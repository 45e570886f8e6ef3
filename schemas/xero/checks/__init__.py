"""The periodic check of all time entries in Xero: their statuses, and entries that should not be there."""
