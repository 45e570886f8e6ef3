"""`./stint demo`."""
