"""`./stint xero`."""
