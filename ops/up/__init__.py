"""`./stint up`: servers and processes on one machine."""
