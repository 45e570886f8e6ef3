"""Connections to Postgres, and what every query of a list shares."""
