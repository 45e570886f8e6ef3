"""The report of an installation: its status and what is wrong, as a process finds it that looks at each server."""
