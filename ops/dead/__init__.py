"""`./stint dead`."""
