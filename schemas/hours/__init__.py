"""Timers, time entries and time bills."""
